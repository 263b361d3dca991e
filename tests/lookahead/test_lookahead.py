"""How far to look ahead: fixed, or after the rolling acceptance rate."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import (
    Adaptive,
    AdaptiveSpeculator,
    CostCurve,
    DraftingTraits,
    Engine,
    Fixed,
    Goodput,
    LookaheadPolicy,
    ModelDrafter,
    ModelTreeDrafter,
    Outcome,
    SettingError,
    SuffixDrafter,
    TableModel,
)

rates = st.lists(st.floats(0, 1), max_size=60)


def test_a_fixed_lookahead_never_moves() -> None:
    policy = Fixed(3)
    policy.observe([Outcome("a", 3, 3, 0)], None)
    assert policy.plan(["a", "b"]) == [3, 3]
    assert Fixed(0).plan(["a"]) == [0]


def test_a_negative_lookahead_is_refused() -> None:
    with pytest.raises(SettingError, match="lookahead is -1: it must be at least 0"):
        Fixed(-1)


def test_it_grows_while_drafts_are_accepted() -> None:
    speculator = AdaptiveSpeculator(2, patience=1)
    assert [speculator.update_lookahead(1.0) for _ in range(3)] == [3, 4, 5]


def test_it_shrinks_while_drafts_are_rejected() -> None:
    speculator = AdaptiveSpeculator(4, patience=1)
    assert [speculator.update_lookahead(0.0) for _ in range(3)] == [3, 2, 1]


def test_it_stays_between_the_thresholds() -> None:
    speculator = AdaptiveSpeculator(4, raise_above=0.8, lower_below=0.5, patience=1)
    assert [speculator.update_lookahead(rate) for rate in (0.5, 0.65, 0.8)] == [4, 4, 4]


def test_it_waits_for_as_many_updates_as_its_patience() -> None:
    speculator = AdaptiveSpeculator(4, patience=3)
    assert [speculator.update_lookahead(1.0) for _ in range(6)] == [4, 4, 5, 5, 5, 6]


def test_it_averages_over_its_window() -> None:
    speculator = AdaptiveSpeculator(4, window=2, patience=2)
    assert speculator.acceptance_rate is None
    speculator.update_lookahead(0.6)
    speculator.update_lookahead(0.7)
    assert speculator.acceptance_rate == pytest.approx(0.65)
    assert speculator.update_lookahead(1.0) == 5  # (0.7 + 1.0) / 2 is above 0.8
    assert speculator.acceptance_rate is None  # rates of the old lookahead count no more


def test_it_keeps_to_its_bounds() -> None:
    speculator = AdaptiveSpeculator(2, min_lookahead=1, max_lookahead=3, patience=1)
    assert [speculator.update_lookahead(1.0) for _ in range(3)] == [3, 3, 3]
    assert [speculator.update_lookahead(0.0) for _ in range(9)][-1] == 1


@given(rates, st.integers(0, 3), st.integers(0, 5), st.integers(1, 5))
def test_whatever_it_meets_it_moves_by_at_most_one_within_its_bounds(observed, low, span, patience) -> None:
    speculator = AdaptiveSpeculator(low, min_lookahead=low, max_lookahead=low + span, patience=patience)
    before = low
    for rate in observed:
        after = speculator.update_lookahead(rate)
        assert low <= after <= low + span
        assert abs(after - before) <= 1
        before = after


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, math.inf])
def test_a_rate_beyond_0_to_1_is_refused(rate: float) -> None:
    with pytest.raises(SettingError, match=f"acceptance_rate is {rate}"):
        AdaptiveSpeculator().update_lookahead(rate)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"initial_lookahead": 0}, "initial_lookahead is 0"),
        ({"initial_lookahead": 17}, "max_lookahead 16"),
        ({"min_lookahead": -1}, "min_lookahead -1"),
        ({"raise_above": 0.4, "lower_below": 0.6}, "lower_below is 0.6 and raise_above 0.4"),
        ({"raise_above": 1.5}, "raise_above 1.5"),
        ({"lower_below": -0.5}, "lower_below is -0.5"),
        ({"patience": 0}, "patience is 0: it must be from 1 to window, 8"),
        ({"patience": 9}, "patience is 9: it must be from 1 to window, 8"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        AdaptiveSpeculator(**arguments)


def test_a_copy_starts_where_the_original_is_and_goes_its_own_way() -> None:
    original = AdaptiveSpeculator(2, patience=1)
    original.update_lookahead(1.0)
    copy = original.copy()
    copy.update_lookahead(1.0)
    assert (original.lookahead, copy.lookahead) == (3, 4)


def test_every_sequence_adapts_by_itself() -> None:
    policy = Adaptive(AdaptiveSpeculator(2, patience=1))
    policy.observe([Outcome("good", 2, 2, 2)], None)
    policy.observe([Outcome("bad", 2, 2, 0)], None)
    assert policy.plan(["good", "bad", "new"]) == [3, 1, 2]


def test_a_round_without_a_draft_teaches_nothing() -> None:
    policy = Adaptive(AdaptiveSpeculator(2, patience=1))
    policy.observe([Outcome("a", 0, 0, 0)], None)
    assert policy.plan(["a"]) == [2]


def test_a_sequence_that_ended_is_forgotten() -> None:
    policy = Adaptive(AdaptiveSpeculator(2, patience=1))
    policy.observe([Outcome("a", 2, 2, 2)], None)
    policy.forget("a")
    policy.forget("never seen")
    assert policy.plan(["a"]) == [2]


# What an engine tells a policy


class Plans(LookaheadPolicy):
    """A policy of somebody's own: `plan` is enough."""

    def plan(self, sequences):
        return [2] * len(sequences)


def test_a_policy_that_only_plans_is_complete() -> None:
    policy = Plans()
    policy.bind(DraftingTraits(trees=True), CostCurve())
    assert [budget.nodes for budget in policy.budgets(["a", "b"])] == [2, 2]
    policy.observe([Outcome("a", 2, 2, 1)], None)
    policy.forget("a")


def test_a_policy_keeps_the_costs_only_if_it_wants_them() -> None:
    costs = CostCurve({(1, 1): 1.0})
    for policy, kept in ((Plans(), None), (Goodput(), costs)):
        policy.bind(DraftingTraits(), costs)
        assert policy.costs is kept


class Bound(Goodput):
    """Goodput that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[DraftingTraits, CostCurve]] = []

    def bind(self, drafting, costs):
        self.told.append((drafting, costs))
        super().bind(drafting, costs)


def test_engines_that_share_a_policy_one_after_the_other_bind_it_once_each_to_the_same_costs() -> None:
    policy = Bound()
    model = TableModel.random(8, 1, seed=0)
    Engine(model, None, lookahead=policy)
    assert policy.told == []  # nothing drafts, and nothing was measured
    for drafter in (ModelDrafter(model), SuffixDrafter(), ModelTreeDrafter(model)):
        assert Engine(model, drafter, lookahead=policy).costs is policy.costs
    traits = [DraftingTraits(), DraftingTraits(estimates=True), DraftingTraits(trees=True)]
    assert policy.told == [(each, policy.costs) for each in traits]
