"""The parts of which Goodput is made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import CostCurve, Outcome
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.lookahead.goodput.best_stop import best_stop
from outrider.lookahead.goodput.probing import FIRST_WAIT, Patience, Probing
from outrider.lookahead.goodput.survival import Survival


def test_a_mean_is_that_of_all_values_at_first_and_later_that_of_the_last() -> None:
    mean = RunningMean()
    for value in (1.0, 2.0, 6.0):
        mean.add(value)
    assert mean.value == pytest.approx(3.0)
    for _ in range(200):
        mean.add(7.0)
    assert mean.value == pytest.approx(7.0, abs=0.01)


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


@pytest.mark.parametrize("most", [3, 16, 500])
def test_a_table_of_costs_does_not_depend_on_how_far_it_goes(most: int) -> None:
    curve = CostCurve({(2, 2): 1.0, (2, 64): 3.0})
    generator = np.random.default_rng(0)
    for _ in range(150):
        tokens = int(generator.integers(2, 20))
        curve.observe(2, tokens, 1.5 + 0.2 * tokens)
    np.testing.assert_allclose(curve.table(2, most), curve.table(2, 1000)[: most + 1], rtol=1e-12)
    assert curve.seconds(2, 9) == pytest.approx(1.5 + 0.2 * 9, rel=0.05)
