"""What Goodput makes of trees: counts of one round tell of every smaller tree, and costs choose among them."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.offload.oracle import Oracle
from exactness.simulated_time import Clock, TimedModel, steady
from outrider import (
    Adaptive,
    AdaptiveSpeculator,
    CostCurve,
    DraftingTraits,
    DynamicTree,
    Engine,
    Goodput,
    ModelTreeDrafter,
    Outcome,
    Request,
    SamplingParams,
    TableModel,
)
from outrider.lookahead.goodput.tree_counts import PRIOR, TreeCounts

#   root - 0 - 1 - 3      in the order in which the nodes joined it
#        \ 2 - 4
DEPTHS = (1, 2, 1, 3, 2)
# Of 20 such trees: which path was accepted, and how often. Nodes 0 to 4 are accepted in 12, 10, 7, 6 and 4 of them.
PATHS = {(0, 1, 3): 6, (0, 1): 4, (0,): 2, (2, 4): 4, (2,): 3, (): 1}


def test_a_tree_tells_what_every_smaller_and_every_flatter_tree_would_have_had_accepted() -> None:
    counts = TreeCounts((1, 2, 4), 8)
    paths = [path for path, often in PATHS.items() for _ in range(often)]
    mixed = [paths[place] for place in np.random.default_rng(0).permutation(20)]
    for path in 100 * mixed:
        counts.add(Outcome("a", 5, 5, len(path), DEPTHS, path, levels=4))
    one, two, all_levels = counts.chances()
    # One level holds nodes 0 and 2, two levels nodes 0, 1, 2 and 4.
    np.testing.assert_allclose(one[:2], [12 / 20, 7 / 20], atol=0.02)
    np.testing.assert_allclose(two[:4], [12 / 20, 10 / 20, 7 / 20, 4 / 20], atol=0.02)
    np.testing.assert_allclose(all_levels[:5], [12 / 20, 10 / 20, 7 / 20, 6 / 20, 4 / 20], atol=0.02)
    np.testing.assert_allclose(counts.levels()[2, :5], [1, 2, 2, 3, 3], atol=0.02)


def test_what_follows_a_node_that_fails_is_worth_no_more() -> None:
    counts = TreeCounts((1, 2, 4), 8)
    for _ in range(2000):
        counts.add(Outcome("a", 5, 5, 2, DEPTHS, path=(2, 4), levels=4))
    assert (counts.chances() < 0.01).all()  # node 0 is never accepted, and is drafted first


def test_a_bound_that_was_felt_tells_nothing_of_deeper_trees() -> None:
    counts = TreeCounts((1, 2, 4), 8)
    guess = counts.chances()[0, 0]
    counts.add(Outcome("a", 6, 4, 0, (1, 2, 1, 2), levels=2))
    assert counts.chances()[:, 0] == pytest.approx([guess * PRIOR / (PRIOR + 1)] * 2 + [guess])
    counts.add(Outcome("a", 6, 4, 0, (1, 2, 1, 2), levels=4))
    failed = [guess * PRIOR / (PRIOR + trees) for trees in (2, 2, 1)]
    assert counts.chances()[:, 0] == pytest.approx(failed, rel=0.01)


def chosen(target_price, draft_price, *, spread: float = 1.5, draws: int = 40) -> list[Outcome]:
    """The last rounds of Goodput on simulated time."""
    clock = Clock()
    table = TableModel.random(24, 2, spread=spread, seed=1)
    target = TimedModel(table, clock, target_price)
    draft = TimedModel(TableModel(table.table + TableModel.random(24, 2, spread=0.5, seed=2).table), clock, draft_price)
    seen: list[Outcome] = []

    class WatchedGoodput(Goodput):
        def observe(self, outcomes, times):
            seen.extend(outcomes)
            super().observe(outcomes, times)

    engine = Engine(
        target, ModelTreeDrafter(draft, DynamicTree(4, 8)), lookahead=WatchedGoodput(), max_rows=1, clock=clock
    )
    for seed in range(draws):
        engine.submit(Request((1, 2, 3), 40, SamplingParams(temperature=0.5, seed=seed)))
    while not engine.idle:
        engine.step()
    return seen[len(seen) // 2 :]


def mean(outcomes, what) -> float:
    return float(np.mean([what(outcome) for outcome in outcomes]))


def test_cheap_verification_buys_large_trees_and_dear_verification_small_ones() -> None:
    cheap = chosen(steady(1.0, 0.001), steady(0.02, 0.0))
    dear = chosen(steady(1.0, 0.15), steady(0.02, 0.0))
    assert mean(cheap, lambda o: o.planned) > 7
    assert 0 < mean(dear, lambda o: o.planned) < 4
    assert any(o.depths and len(set(o.depths)) < len(o.depths) for o in cheap)


def test_passes_that_cost_the_same_at_any_width_buy_wide_trees() -> None:
    """As where each pass reads the weights from a disk; every node is one that a fixed tree would have too."""
    vocab, sizes = 97, {}
    text = [1]
    while len(text) < 600:
        text.append((5 * text[-1] + 3) % vocab)
    table = np.zeros((vocab, vocab))
    table[np.arange(vocab), (5 * np.arange(vocab) + 3) % vocab] = 9
    speeds = {}
    for lookahead in (None, 16, 512):
        clock, rounds = Clock(), []
        target = TimedModel(TableModel(table), clock, steady(1.0, 0.0001))
        target.traits = replace(target.traits, widest=512)
        engine = Engine(
            target,
            Oracle(text, vocab, trees=True),
            lookahead=lookahead,
            max_rows=1,
            clock=clock,
            observer=rounds.append,
        )
        engine.submit(Request(tuple(text[:32]), 400, SamplingParams(temperature=0)))
        start = clock.now
        while not engine.idle:
            engine.step()
        speeds[lookahead] = 400 / (clock.now - start)
        sizes[lookahead] = [record.sequences[0].drafted for record in rounds]
    assert np.median(sizes[None]) >= 64
    assert speeds[None] > 1.2 * speeds[16]
    assert speeds[None] > 0.85 * speeds[512]


def test_dear_drafting_passes_buy_flat_trees() -> None:
    quick = chosen(steady(1.0, 0.01), steady(0.01, 0.0))
    slow = chosen(steady(1.0, 0.01), steady(0.4, 0.0))
    assert mean(slow, lambda o: o.levels) < 0.8 * mean(quick, lambda o: o.levels)
    assert mean(slow, lambda o: o.planned) > 1


def test_drafting_that_never_pays_ends_and_is_probed_ever_more_seldom() -> None:
    outcomes = chosen(steady(1.0, 0.5), steady(3.0, 0.0))
    assert mean(outcomes, lambda o: o.planned > 0) < 0.05


def test_adaptive_judges_a_tree_by_its_longest_path() -> None:
    policy = Adaptive(AdaptiveSpeculator(4, patience=1))
    policy.observe([Outcome("a", 4, 4, 2, (1, 1, 2, 2), path=(1, 3), levels=4)], None)
    assert policy.plan(["a"]) == [5]


@pytest.mark.parametrize("rows", [1, 3])
def test_planning_takes_its_costs_from_the_curve(rows: int) -> None:
    flat = Goodput(8)
    flat.bind(DraftingTraits(trees=True), CostCurve({(1, 1): 1.0, (1, 8): 1.0, (4, 4): 1.0, (4, 32): 1.0}))
    assert [budget.nodes for budget in flat.budgets(list(range(rows)))] == [8] * rows
    steep = Goodput(8)
    steep.bind(DraftingTraits(trees=True), CostCurve({(1, 1): 1.0, (1, 2): 2.0, (4, 4): 1.0, (4, 8): 2.0}))
    assert max(budget.nodes for budget in steep.budgets(list(range(rows)))) == 0
