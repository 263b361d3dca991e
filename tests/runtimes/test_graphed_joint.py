"""Joint trees whose head grows its own tree on a device, with the CPU in its place, against heads that are asked."""

from dataclasses import replace

import pytest
from test_graphed_heads import parts_of
from test_graphs import even_clock

from tiny.runtimes import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("safetensors.torch")

from outrider import (  # noqa: E402
    DynamicTree,
    Engine,
    Fixed,
    JointDrafter,
    LookupDrafter,
    RecyclingSource,
    Request,
    SamplingParams,
    SuffixSource,
)
from outrider.drafters.heads.drafter import HeadDrafter  # noqa: E402
from outrider.drafters.heads.opening import TorchHead  # noqa: E402
from outrider.drafters.lookup.source import Source  # noqa: E402
from outrider.runtimes.torch.cuda.device import Host  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402


class Nothing(Source):
    """Knows nothing: what is drafted is the head's own."""

    def foresee(self, cursor, context):
        return None


FRESH = [tuple(range(3 + 11 * row, 12 + 11 * row)) for row in range(3)]  # nothing occurs twice
COPIED = [(3, 5, 7, 9 + row) * 6 for row in range(3)]


def decoded(prompts, head_on, folder, sampling, shape, sources, greedy=False, **options):
    """Texts, and the drafts of their rounds."""
    target = GraphedLlama.of(tiny("Llama", num_hidden_layers=4), device=Host())
    head, ids = parts_of(folder, target_size=32, size=32, vocab_size=48, drafted=range(0, 48, 2))
    drafter = None
    if shape is not None:
        network = TorchHead(head, target.embedding(), ids, head_on)
        lookups = LookupDrafter([each() for each in sources])
        drafter = JointDrafter(lookups, HeadDrafter(network, shape=shape, greedy=greedy), clock=even_clock())
    records = []
    engine = Engine(
        target, drafter, lookahead=Fixed(6), max_rows=len(prompts), capacity=100, clock=even_clock(),
        observer=records.append, **options,
    )  # fmt: skip
    handles = [
        engine.submit(Request(prompt, 30, replace(sampling, seed=row), stop_token_ids=frozenset()))
        for row, prompt in enumerate(prompts)
    ]
    while not engine.idle:
        engine.step()
    assert engine.drafter_failures == 0
    drafts = [[part.draft for part in record.sequences] for record in records]
    return [handle.tokens for handle in handles], drafts


GREEDY = SamplingParams(temperature=0)
WIDE = DynamicTree(8, 7, 8)  # whatever the joint tree asks about is in the head's


@pytest.mark.parametrize("rows", [1, 3])
def test_a_tree_that_grew_answers_as_the_head_does(rows, tmp_path):
    """Where nothing is looked up the tree is the head's alone: the same tokens, parents and chances."""
    found = [decoded(FRESH[:rows], on, tmp_path / "head", GREEDY, WIDE, (Nothing,)) for on in (Host(), None)]
    assert found[0][0] == found[1][0]
    drafts = [[part for parts in drafts for part in parts if part is not None] for _, drafts in found]
    assert len(drafts[0]) == len(drafts[1]) > 10
    for one, other in zip(*drafts, strict=True):
        assert (one.tokens, one.parents, one.sources) == (other.tokens, other.parents, other.sources)
        assert one.chances == pytest.approx(other.chances, rel=1e-4)


@pytest.mark.parametrize("shape", [DynamicTree(4, 3, 2), WIDE])
def test_lookups_and_a_tree_that_grew_are_joined_without_changing_a_greedy_text(shape, tmp_path):
    sources = (SuffixSource, RecyclingSource)
    plain, _ = decoded(COPIED, None, tmp_path / "head", GREEDY, None, ())
    texts, drafts = decoded(COPIED, Host(), tmp_path / "head", GREEDY, shape, sources)
    assert texts == plain
    by = {source for parts in drafts for part in parts if part is not None for source in part.sources}
    assert any("head" in each for each in by)  # both have their part
    assert any("suffix" in each for each in by)


def test_where_it_is_chosen_the_text_of_a_seed_is_plains_under_coupled(tmp_path):
    sampling, sources = SamplingParams(temperature=0.9), (SuffixSource,)
    plain, _ = decoded(COPIED, None, tmp_path / "head", sampling, None, (), rule="coupled")
    texts, _ = decoded(
        COPIED, Host(), tmp_path / "head", sampling, DynamicTree(4, 3, 2), sources, greedy=True, rule="coupled"
    )  # fmt: skip
    assert texts == plain
