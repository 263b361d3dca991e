"""Trees of a draft model that grow on the device, with the CPU in its place: through the whole engine."""

from collections import Counter
from collections.abc import Callable
from unittest.mock import patch

import pytest
from test_graphs import of_cpu

from tiny.runtimes import tiny
from tiny.sessions import text

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from exactness.statistics import THRESHOLD, joint_distribution, p_value  # noqa: E402
from exactness.test_runtimes import LogitsOf, graphed  # noqa: E402
from outrider import (  # noqa: E402
    DynamicTree,
    Engine,
    Fixed,
    ModelTreeDrafter,
    Request,
    SamplingParams,
    StaticTree,
)
from outrider.drafters.cache import DraftCache  # noqa: E402
from outrider.drafters.growth import Growth  # noqa: E402
from outrider.runtimes.torch.cuda.growing import Trees  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402

GREEDY = SamplingParams(temperature=0)
UNLIKE = [SamplingParams(temperature=0.7, seed=1), GREEDY, SamplingParams(top_k=9, top_p=0.9, seed=3)]
SHAPES = {"dynamic": DynamicTree(), "static": StaticTree((3, 2, 1)), "narrow": DynamicTree(5, 3, 2)}


def on_device():
    return GraphedLlama.of(tiny("Llama"), device="cpu")


def texts_and_drafts(make: Callable, shape, rule, samplings):
    rounds = []
    drafter = ModelTreeDrafter(make(), shape)
    engine = Engine(
        make(), drafter, lookahead=Fixed(12), rule=rule, max_rows=3, capacity=128, observer=rounds.append
    )  # fmt: skip
    prompts = [[3, 5, 7, 9] * 5, text(of_cpu(), 9, 4), text(of_cpu(), 17, 2)]
    handles = [
        engine.submit(Request(tuple(prompt), 24, sampling, num_draft_tokens=12 - 4 * number))
        for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
    ]
    while not engine.idle:
        engine.step()
    assert [handle.error for handle in handles] == [None] * 3
    # Which rows share a pass is a matter of time, and with it their order.
    drafts = [
        {
            part.sequence: (part.draft.tokens, part.draft.parents, part.draft.path)
            for part in each.sequences
            if part.draft
        }
        for each in rounds
    ]
    return [handle.tokens for handle in handles], drafts


CASES = [
    ("dynamic", "token", [GREEDY] * 3),
    ("dynamic", "coupled", UNLIKE),
    ("static", "token", UNLIKE),
    ("narrow", "token", UNLIKE),
]


@pytest.mark.parametrize(("shape", "rule", "samplings"), CASES, ids=["greedy", "coupled", "static", "narrow"])
def test_trees_of_a_device_are_those_of_a_cpu(shape, rule, samplings):
    """Rows of unlike settings and budgets; the first levels of a tree, its branches, and what is kept of them."""
    asked = []
    grow = DraftCache.grow_trees

    def counted(self, rows, plan):
        asked.append(len(rows))
        return grow(self, rows, plan)

    with patch.object(DraftCache, "grow_trees", counted):
        found = [texts_and_drafts(make, SHAPES[shape], rule, samplings) for make in (of_cpu, on_device)]
    assert found[0] == found[1]
    assert len(asked) > 5
    assert max(len(set(parents)) for each in found[1][1] for _, parents, _ in each.values()) > 3


PROMPT, TEXTS, SAMPLING = (0, 1, 3, 2), 400, SamplingParams(temperature=0.9)


def p_of_texts(first: int = 0) -> float:
    """That texts of two tokens, of a target and a draft model that are drawn apart, have the target's distribution."""
    target = graphed(40)
    drafter = ModelTreeDrafter(graphed(41), DynamicTree(most_children=3, depth=3, beam=2))
    engine = Engine(target, drafter, lookahead=Fixed(6), max_rows=16, capacity=16)
    handles = [
        engine.submit(Request(PROMPT, 4, SamplingParams(temperature=0.9, seed=seed)))
        for seed in range(first, first + TEXTS)
    ]
    while not engine.idle:
        engine.step()
    counts = Counter(tuple(handle.tokens[:2]) for handle in handles)
    return p_value(counts, joint_distribution(LogitsOf(target), PROMPT, 2, SAMPLING))


def test_texts_have_the_targets_distribution():
    assert p_of_texts() > THRESHOLD


def found_at_last(mistake) -> bool:
    with mistake:
        return any(p_of_texts(first) < THRESHOLD for first in (0, 10_000, 20_000))


def test_children_drawn_with_replacement_are_found():
    def draw(self, level, q, count):
        return torch.multinomial(q, count, replacement=True, generator=torch.Generator().manual_seed(level))

    assert found_at_last(patch.object(Trees, "draw", draw))


def test_children_that_are_the_most_probable_tokens_are_found():
    def draw(self, level, q, count):
        return torch.topk(q, count, dim=-1).indices

    assert found_at_last(patch.object(Trees, "draw", draw))


def test_the_q_of_another_place_is_found():
    opened = Growth.open_from

    def open_at_the_text(self, node, tokens, shares, q_index):
        return opened(self, node, tokens, shares, min(q_index, 0))

    assert found_at_last(patch.object(Growth, "open_from", open_at_the_text))
