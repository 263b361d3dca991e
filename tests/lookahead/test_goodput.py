"""The parts of which Goodput is made, and what its three policies share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import CostCurve, DraftingTraits, Goodput, Outcome, Times
from outrider.lookahead.goodput.alone import best_length, least_loss
from outrider.lookahead.goodput.best_stop import best_stop
from outrider.lookahead.goodput.probing import FIRST_WAIT, Patience, Probing
from outrider.lookahead.goodput.survival import Survival


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_the_best_stop_is_the_best_of_all(seed: int, rows: int) -> None:
    generator = np.random.default_rng(seed)
    gains, drafting, steps = generator.random((3, 2, 6))
    passes, overhead = 1 + np.cumsum(steps, axis=1), 0.1
    rates = [
        [(rows + gains[way, : last + 1].sum()) / (passes + drafting + overhead)[way, last] for last in range(6)]
        for way in range(2)
    ]
    way, last, rate = best_stop(rows, gains, drafting, passes, overhead)
    assert rate == pytest.approx(np.max(rates))
    assert rates[way][last] == pytest.approx(rate)


@given(st.integers(0, 2**32), st.floats(0.0, 0.5))
def test_a_chain_alone_is_as_long_as_emits_most_per_second(seed: int, slope: float) -> None:
    generator = np.random.default_rng(seed)
    drafts = np.cumprod(generator.random(6))
    survives, seconds = drafts * generator.random(6), 1 + np.cumsum(slope * generator.random(8))
    call, position, token, overhead = generator.random(4) * 0.1
    passes = np.interp(1 + np.cumsum(drafts), np.arange(8), seconds)
    drafting = call + (position + token) * np.cumsum(drafts)
    stepwise = seconds[1] + np.cumsum(drafts * np.diff(seconds[1:]))
    rates = [1 / (seconds[1] + overhead), *(1 + np.cumsum(survives)) / (stepwise + drafting + overhead)]
    length, rate = best_length(list(survives), list(drafts), list(seconds), (call, position, token), overhead)
    assert (length, rate) == (np.argmax(rates), pytest.approx(max(rates)))

    drafting = call + position * np.arange(1, 7) + token * np.cumsum(drafts)
    losses = (passes - seconds[1] + drafting) * rates[0] - np.cumsum(survives)
    length, loss = least_loss(list(survives), list(drafts), list(seconds), (call, position, token), rates[0])
    assert (length, loss) == (1 + np.argmin(losses), pytest.approx(min(losses)))


def probes(probing: Probing, rounds: int, accepted: int) -> list[int]:
    """The rounds in which a sequence whose drafts never seem to pay probes."""
    found = []
    for number in range(rounds):
        probing.plan(pays=False)
        probing.now = probing.idle >= probing.wait
        if probing.now:
            found.append(number)
        probing.learn(probing.now, accepted)
    return found


def test_after_every_vain_probe_a_sequence_waits_twice_as_long() -> None:
    patience = Patience(longest=16)
    assert np.diff(probes(Probing(patience), 80, 0)).tolist() == [9, 17, 17, 17]
    # And those that come after it begin as patient as it became.
    assert probes(Probing(patience), 10, 0) == [FIRST_WAIT]
    assert Patience(longest=16).first == FIRST_WAIT


def test_a_probe_that_brought_something_is_followed_by_another() -> None:
    first, second = probes(Probing(Patience(longest=16)), 6, 1)
    assert second == first + 1


def test_a_draft_that_pays_makes_sequences_impatient_again() -> None:
    patience = Patience(longest=64)
    probing = Probing(patience)
    probes(probing, 100, 0)
    probing.plan(pays=True)
    assert (probing.wait, patience.first) == (FIRST_WAIT, FIRST_WAIT)


def learn(survival: Survival, sequence: str, accepted: int, rounds: int = 40) -> None:
    for _ in range(rounds):
        survival.predict([sequence])
        survival.learn([Outcome(sequence, 4, 4, accepted)])


def test_each_sequence_is_foretold_by_its_own_drafts_whatever_others_share_the_round() -> None:
    survival = Survival(4)
    learn(survival, "good", 4)
    learn(survival, "bad", 0)
    (good, bad, new), _ = survival.predict(["good", "bad", "new"])
    assert good[0] > 0.9 > new[0] > bad[0] + 0.1
    np.testing.assert_allclose(survival.accepted(["bad"])[0], bad)
    np.testing.assert_allclose(survival.accepted(["new", "good"]), [new, good])


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=40))
def test_a_sequence_alone_is_foretold_and_learned_from_as_among_others(drafts: list[tuple[int, int, int]]) -> None:
    alone, among, mixed = Survival(4), Survival(4), Survival(4)
    for number, (planned, drafted, accepted) in enumerate(drafts):
        drafted = min(drafted, planned)
        outcome = Outcome("a", planned, drafted, min(accepted, drafted))
        alone.predict_one("a")
        for survival in (among, mixed):
            survival.predict(["a", "plain"])
        alone.learn([outcome])
        among.learn([outcome, Outcome("plain", 0, 0, 0)])
        mixed.learn([outcome, Outcome("plain", 0, 0, 0)] if number % 2 else [outcome])
        expected = among.predict(["a", "new"])
        for survival in (alone, among, mixed):
            np.testing.assert_allclose(survival.predict_one("a"), [each[0] for each in expected])
            np.testing.assert_allclose(survival.predict(["a", "new"]), expected)
            np.testing.assert_allclose(survival.accepted_one("a", 0.5), survival.accepted(["a", "new"], 0.5)[0])


def test_a_sequence_that_ended_leaves_nothing_to_the_next() -> None:
    survival = Survival(4)
    learn(survival, "pool", 2)
    learn(survival, "bad", 0, rounds=1)
    before = survival.accepted(["unseen"])
    survival.forget("bad")
    survival.forget("never seen")
    np.testing.assert_array_equal(survival.accepted(["next"]), before)


def test_a_drafter_that_stops_by_itself_is_expected_to() -> None:
    survival = Survival(4)
    for _ in range(40):
        survival.predict(["a"])
        survival.learn([Outcome("a", 4, 2, 2)])
    accepted, drafted = survival.predict(["a"])
    np.testing.assert_allclose(drafted[0], [1, 1, 0, 0], atol=0.1)
    assert (accepted <= drafted).all()


# What the three policies share, and the choice between them

CURVE = {(rows, rows * n): 1.0 + 0.01 * rows * n for rows in (1, 2) for n in (1, 4, 16)}
KINDS = {
    "chains": DraftingTraits(),
    "trees": DraftingTraits(trees=True),
    "priced": DraftingTraits(estimates=True),
    "priced trees": DraftingTraits(trees=True, estimates=True),
}


def bound(kind: str, policy: Goodput | None = None) -> Goodput:
    policy = policy or Goodput(8)
    policy.bind(KINDS[kind], policy.costs or CostCurve(CURVE))
    return policy


def nodes(policy: Goodput, sequences: list, chances: list[float]) -> list[int]:
    """Tokens that a drafter with these chances drafts within the budgets."""
    return [min(budget.nodes, budget.prices.worthwhile(chances)) for budget in policy.budgets(sequences)]


def rounds(policy: Goodput, count: int, accepted: int, drafting: float, sequence: str = "a") -> None:
    """Rounds in which 4 tokens are drafted, in `drafting` seconds."""
    for _ in range(count):
        policy.budgets([sequence])
        policy.observe([Outcome(sequence, 8, 4, accepted, expected=3.0, levels=8)], Times(drafting, 1.0, 0.01))


LIKELY = [0.95**place for place in range(1, 9)]


@pytest.mark.parametrize("kind", KINDS)
def test_each_policy_drafts_where_drafting_is_cheap_and_not_where_it_is_dear(kind: str) -> None:
    for drafting, drafts in ((0.01, True), (40.0, False)):
        policy = bound(kind)
        rounds(policy, 60, 3, drafting)
        assert (nodes(policy, ["a"], LIKELY)[0] > 0) == drafts


@pytest.mark.parametrize("kind", KINDS)
def test_the_round_in_which_a_drafter_catches_up_teaches_no_price(kind: str) -> None:
    policy = bound(kind)
    for _ in range(60):
        for sequence in ("a", "b"):  # each drafts after a pause, and pays for it
            policy.budgets([sequence])
            policy.observe([Outcome(sequence, 8, 4, 3, expected=3.0, levels=8)], Times(40.0, 1.0, 0.01))
    assert nodes(policy, ["a"], LIKELY)[0] > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_that_is_forgotten_is_like_any_other(kind: str) -> None:
    policy = bound(kind)
    rounds(policy, 30, 3, 0.01, "good")
    rounds(policy, 30, 0, 0.01, "bad")
    policy.forget("bad")
    policy.forget("never seen")
    assert policy.budgets(["bad"]) == policy.budgets(["new"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_that_serves_another_engine_knows_what_it_learned(kind: str) -> None:
    policy = bound(kind)
    rounds(policy, 60, 3, 40.0)
    policy.forget("a")
    other = next(each for each in KINDS if each.split()[0] != kind.split()[0])
    assert nodes(bound(other, policy), ["a"], LIKELY)[0] > 0  # another kind of drafter has prices of its own
    assert nodes(bound(kind, policy), ["a"], LIKELY)[0] == 0


def test_chains_that_a_subclass_plans_are_what_the_engine_asks_for() -> None:
    class Twice(Goodput):
        def plan(self, sequences):
            return [2 * lookahead for lookahead in super().plan(sequences)]

    policy = bound("chains", Twice(4))
    assert [budget.nodes for budget in policy.budgets(["a"])] == [8]


def test_a_policy_that_no_engine_bound_plans_by_a_guess() -> None:
    policy = Goodput(4)
    assert policy.plan(["a"]) == [4]
    assert not policy.explores("a")


def test_where_drafts_do_not_pay_a_sequence_explores_now_and_then() -> None:
    policy = Goodput(4)
    policy.bind(DraftingTraits(), CostCurve({(1, n): float(n) for n in range(1, 6)}))
    explored = []
    for number in range(300):
        (lookahead,) = policy.plan(["a"])
        if policy.explores("a"):
            explored.append(number)
            assert lookahead > 0
        policy.observe([Outcome("a", lookahead, lookahead, 0)], Times(0.0, 1.0 + lookahead, 0.0))
    assert len(explored) > 2
    assert (np.diff(explored)[1:] >= np.diff(explored)[:-1]).all()
