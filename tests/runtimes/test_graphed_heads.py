"""Draft heads on a GPU: their passes are replayed and their chains rolled out, with the CPU in its place."""

import pytest
from test_graphs import rounds_of

from tiny.runtimes import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors.torch")

from outrider import Engine, Fixed, Request, SamplingParams, TableModel  # noqa: E402
from outrider.drafters.heads.config import read_config  # noqa: E402
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402
from outrider.drafters.heads.graphed import GraphedStates  # noqa: E402
from outrider.drafters.heads.layout import fill, read_weights, target_ids  # noqa: E402
from outrider.drafters.heads.module import Eagle3  # noqa: E402
from outrider.drafters.heads.opening import TorchHead  # noqa: E402
from outrider.drafters.heads.states import HeadStates  # noqa: E402
from outrider.runtimes.files.folder import read_object  # noqa: E402
from outrider.runtimes.torch.cuda.device import Host  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402
from tiny import heads as tiny_heads  # noqa: E402
from tiny.standing import Stand, StandingDevice  # noqa: E402

VOCABULARY, DRAFTED = 9, (1, 2, 4, 5, 8)
OPTIONS = {"plain": {}, "3.1": {"options": {"fc_norm": True, "norm_output": True}}, "qwen3": {"kind": "qwen3"}}


def parts_of(folder, **settings):
    """A head in float32, and the target's ids of its tokens."""
    tiny_heads.write(folder, **{"vocab_size": VOCABULARY, "drafted": DRAFTED} | settings)
    config = read_config(read_object(folder / "config.json"), "config").reading(4)
    weights = read_weights(folder)
    ids = target_ids(weights, config, "head")
    head = Eagle3(config)
    weights.pop("embed_tokens.weight", None)
    fill(head, weights, "head")
    return head.eval().requires_grad_(False), ids


def on_gpu(head):
    """The same with tensors of the device that stands for a GPU."""
    for module in head.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            setattr(module, name, weight.detach().to("cuda"))
    return head


@pytest.mark.parametrize("options", OPTIONS)
def test_what_a_head_makes_of_trees_and_long_texts_is_what_it_makes_on_a_cpu(options, tmp_path):
    head, _ = parts_of(tmp_path / "head", **OPTIONS[options])
    embedding, ids = torch.randn(VOCABULARY, tiny_heads.SIZE), torch.tensor(DRAFTED)
    plain, graphed = HeadStates(head, embedding, 3, 600), GraphedStates(head, embedding, ids, 3, 600, Host())
    random = torch.Generator().manual_seed(1)

    def numbers(most, count):
        return torch.randint(most, (count,), generator=random).tolist()

    for rows, counts in [((0,), [200]), ((0, 1), [3, 2]), *[((0, 2), [5, 4])] * 4, ((0, 1, 2), [1, 1, 1])]:
        for level in range(2):
            tokens = [numbers(VOCABULARY, count) for count in counts]
            trees = [[int(torch.randint(-1, node, (1,), generator=random)) if node else -1 for node in range(count)]
                     for count in counts]  # fmt: skip
            parents = trees if level == 0 and max(counts) < 100 else None
            states = torch.randn(sum(counts), tiny_heads.SIZE, generator=random)
            found, expected = (each.extend(rows, states, tokens, parents) for each in (graphed, plain))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for row in rows:
            for each in (graphed, plain):
                each.keep(row, 0 if parents is None and level == 0 else 1)


class Shown(tiny_heads.ShownTable):
    """A table of two tokens of context."""

    def __init__(self):
        super().__init__(TableModel.random(VOCABULARY, 2, spread=1.2, seed=0).table)


@pytest.mark.parametrize("trees", [False, True], ids=["chains", "trees"])
@pytest.mark.parametrize("rule", ["token", "coupled"])
def test_drafts_of_a_replayed_head_are_those_of_a_cpu(rule, trees, tmp_path):
    """Rows are greedy, sampled, and sampled by other settings; all have their own noise."""
    target = Shown()
    head, ids = parts_of(tmp_path / "head", **OPTIONS["3.1"])
    embedding = torch.from_numpy(target.embedding())
    found = []
    for device in (None, Host()):
        rounds = []
        drafter = HeadDrafter(TorchHead(head, embedding, ids, device), trees=trees)
        engine = Engine(target, drafter, lookahead=Fixed(5), rule=rule, max_rows=3, capacity=64, observer=rounds.append)
        samplings = [SamplingParams(seed=1), SamplingParams(temperature=0), SamplingParams(0.7, top_k=3, seed=2)]
        prompts = [(3, 1, 2), (0, 2, 1, 1, 3, 7, 2, 1, 1), (2,)]
        handles = [engine.submit(Request(*each)) for each in zip(prompts, [20] * 3, samplings, strict=True)]
        while not engine.idle:
            engine.step()
        assert [handle.error for handle in handles] == [None] * 3
        drafts = [
            (part.sequence, part.draft.tokens, part.draft.path)
            for each in rounds
            for part in sorted(each.sequences, key=lambda part: part.sequence)
            if part.draft
        ]
        found.append((drafts, [handle.tokens for handle in handles]))
    assert found[0] == found[1]
    assert len(found[0][0]) > 10


@pytest.mark.parametrize("sampling", [SamplingParams(temperature=0), SamplingParams(0.8)], ids=["greedy", "sampled"])
def test_a_round_with_a_chain_of_a_head_reads_twice_and_launches_thirty_times(sampling, tmp_path):
    settings = {"target_size": 32, "size": 32, "vocab_size": 48, "drafted": range(0, 48, 2)}
    head, ids = parts_of(tmp_path / "head", **settings)
    with Stand() as stand:
        target = GraphedLlama.of(tiny("Llama", num_hidden_layers=4), device=StandingDevice(stand))
        network = TorchHead(on_gpu(head), target.embedding(), ids, StandingDevice(stand))
        engine = Engine(target, HeadDrafter(network, trees=False), lookahead=Fixed(4), max_rows=2, capacity=200)
        used = min(rounds_of(engine, stand, 16, sampling)[-7:], key=lambda each: each["launches"])
    assert used["reads"] == 2
    assert used["launches"] <= 30
