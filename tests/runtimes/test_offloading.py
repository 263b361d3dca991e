"""Weights beyond a limit of memory are read in each pass, and drafts become wide."""

from pathlib import Path

import pytest

import outrider
from outrider import Draft, Drafter, Engine, ModelError, Request, SamplingParams, SettingError
from outrider.engine.judgement import judge
from outrider.engine.memory import BYTES_OF_A_LOGIT
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import rule_named
from outrider.maths.sampling import History
from tiny import model as tiny_model

pytest.importorskip("torch")
pytest.importorskip("accelerate")

GREEDY = SamplingParams(temperature=0)
PROMPT = (3, 4, 5, 6, 3, 4)
NODES = 512
LIMIT = "16KB"  # of 60 KB of weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_model.save(tmp_path_factory.mktemp("model"), context=1024)


@pytest.fixture
def offloaded(folder, tmp_path):
    return outrider.load(folder, dtype="float32", max_memory=LIMIT, offload_folder=tmp_path / "weights")


class Wide(Drafter):
    """Every token of a small vocabulary, level by level: as many nodes as the budget has."""

    name = "wide"
    trees = True

    def __init__(self) -> None:
        self.largest = 0

    def prepare(self, rows, capacity, vocab_size):
        self.width = vocab_size - 3

    def propose(self, sequences, budgets):
        drafts = []
        for budget in budgets:
            nodes = range(budget.nodes if budget.depth > 2 else 0)
            parents = tuple(-1 if node < self.width else node // self.width - 1 for node in nodes)
            drafts.append(Draft(tuple(3 + node % self.width for node in nodes), parents, source=self.name))
            self.largest = max(self.largest, len(nodes))
        return drafts


def test_offloaded_weights_give_the_text_of_those_in_memory(folder, offloaded):
    whole = outrider.load(folder, dtype="float32", backend="torch")
    assert whole.traits.widest == 16
    assert offloaded.traits.widest == NODES
    assert offloaded.traits.identity != whole.traits.identity
    texts = [
        outrider.SpeculativeDecoder(drafter, model, None).generate(list(PROMPT), max_tokens=40, sampling=GREEDY).tokens
        for model in (whole, offloaded)
        for drafter in (None, outrider.SuffixTreeDrafter(), outrider.LookupDrafter())
    ]
    assert all(text == texts[0] for text in texts)


def test_a_limit_as_text_and_as_a_number_is_one_identity(folder, offloaded, tmp_path):
    """Kept costs are found by it."""

    def identity(limit):
        model = outrider.load(folder, dtype="float32", max_memory=limit, offload_folder=tmp_path / "weights")
        return model.traits.identity

    assert identity(16_000) == identity("0.016 mb") == offloaded.traits.identity
    assert identity(16_384) == identity("16KiB") != offloaded.traits.identity


def test_trees_of_512_nodes_are_judged_like_small_ones(offloaded):
    """Greedy, and sampled under the rule whose text does not depend on drafts."""
    for sampling in (GREEDY, SamplingParams(temperature=0.8, seed=1)):
        texts = []
        for drafter, lookahead in ((None, None), (Wide(), NODES)):
            engine = Engine(offloaded, drafter, lookahead=lookahead, rule="coupled", max_rows=1, capacity=64)
            handle = engine.submit(Request(PROMPT, 30, sampling))
            while not engine.idle:
                engine.step()
            texts.append(handle.tokens)
            if drafter is not None:
                assert drafter.largest == NODES
        assert texts[0] == texts[1]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=0.8, seed=1, repetition_penalty=1.2)])
@pytest.mark.parametrize("rule", ["token", "coupled"])
def test_judging_a_tree_takes_the_memory_that_was_planned_for(sampling, rule):
    """Logits of 513 nodes over 20,000 tokens: 41 MB each time that they are held in float32."""
    import torch

    vocab = 20_000
    draft = Draft(tuple(range(NODES)), tuple(node // 8 - 1 for node in range(NODES)))
    logits = torch.randn(1 + NODES, vocab, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    verdict = judge(draft, logits, sampling, History(PROMPT), rule_named(rule), RoundNoise(1, 6))
    assert verdict.token is not None
    assert peak() - before < BYTES_OF_A_LOGIT * (1 + NODES) * vocab


def peak() -> int:
    """The most memory that this process has held, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"max_memory": "4GiB"}, "max_memory is given without offload_folder: give both, or neither"),
        ({"offload_folder": "x"}, "offload_folder is given without max_memory: give both, or neither"),
        ({"max_memory": "much", "offload_folder": "x"}, "max_memory is 'much': give bytes, or a size such as 4GiB"),
        ({"max_memory": True, "offload_folder": "x"}, "max_memory is True: give bytes, or a size"),
        ({"max_memory": "0.0001KB", "offload_folder": "x"}, "max_memory is '0.0001KB': give bytes, or a size"),
        ({"max_memory": 0, "offload_folder": "x"}, "max_memory is 0: give bytes, or a size"),
        ({"max_memory": 1, "offload_folder": "x", "backend": "native"}, "the backend is native: only torch offloads"),
        ({"max_memory": "16KB", "offload_folder": "/proc/no"}, "offload_folder /proc/no cannot be made"),
        (
            {"max_memory": "16KB", "offload_folder": "x", "dtype": "int8"},
            "dtype int8 is not available for",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(folder, settings, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((SettingError, ModelError), match=said):
        outrider.load(folder, **settings)


def test_the_command_takes_the_limit(folder, tmp_path, capsys):
    from outrider.cli.app import run

    flags = ["-m", str(folder), "--dtype", "float32", "--temp", "0", "--max-tokens", "20", "--ignore-chat-template"]
    texts = []
    for more in (["--backend", "torch"], ["--max-memory", LIMIT, "--offload-folder", str(tmp_path)]):
        assert run(["generate", *flags, *more, "the cat sat"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != ""
    assert run(["generate", *flags, "--max-memory", LIMIT, "the cat sat"]) == 2
    assert "give both, or neither" in capsys.readouterr().err
