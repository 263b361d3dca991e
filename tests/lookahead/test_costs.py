"""What is learned about the costs of passes and of drafting."""

import numpy as np
import pytest

from outrider import CostCurve, SettingError
from outrider.lookahead.costs.drafting import DraftCost, solved
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.maths.buckets import Buckets

# The cost curve


def test_between_measured_points_lie_straight_lines_and_beyond_them_the_last_slope() -> None:
    curve = CostCurve({(1, 1): 1.0, (1, 4): 4.0, (1, 8): 4.0, (4, 4): 2.0, (4, 16): 8.0})
    seconds = {(1, 1): 1.0, (1, 2): 2.0, (1, 6): 4.0, (1, 20): 4.0, (4, 8): 4.0, (4, 28): 14.0}
    assert {point: curve.seconds(*point) for point in seconds} == pytest.approx(seconds)
    assert curve.seconds(2, 4) == pytest.approx(2 / 3 * 2.0 + 1 / 3 * 4.0)  # a third of the way from one row to four
    assert curve.seconds(8, 32) == pytest.approx(curve.seconds(4, 32))  # more rows than measured: tokens alone
    assert curve.seconds(4, 2) == curve.seconds(4, 4)  # a row feeds at least a token


@pytest.mark.parametrize("points", [{}, {(2, 1): 1.0}, {(1, 1): 0.0}, {(1, 1): float("nan")}])
def test_points_that_make_no_sense_are_refused(points: dict) -> None:
    with pytest.raises(SettingError, match="cost point"):
        CostCurve(points)


def test_a_curve_that_nothing_measured_takes_its_unit_from_the_first_pass() -> None:
    curve = CostCurve()
    curve.observe(1, 1, 0.02)
    assert curve.seconds(1, 1) == pytest.approx(0.02, rel=0.05)
    assert 0.02 < curve.seconds(1, 64) < 0.04


def test_a_pass_that_is_held_up_is_believed_little() -> None:
    curve = CostCurve({(1, 1): 1.0, (1, 16): 1.0})
    for _ in range(20):
        curve.observe(1, 4, 1.0)
    curve.observe(1, 4, 50.0)
    assert curve.seconds(1, 4) < 1.05


def test_a_pass_never_run_is_hoped_to_be_cheaper_until_it_is() -> None:
    curve = CostCurve({(1, 1): 1.0, (1, 16): 1.0})
    assert curve.table(1, 8, hope=0.1)[8] == pytest.approx(np.exp(-0.1))
    for _ in range(30):
        curve.observe(1, 8, 1.0)
    assert curve.table(1, 8, hope=0.1)[8] > 0.99


@pytest.mark.parametrize("most", [3, 16, 500])
def test_a_table_of_costs_does_not_depend_on_how_far_it_goes(most: int) -> None:
    curve = CostCurve({(2, 2): 1.0, (2, 64): 3.0})
    generator = np.random.default_rng(0)
    for _ in range(150):
        tokens = int(generator.integers(2, 20))
        curve.observe(2, tokens, 1.5 + 0.2 * tokens)
    np.testing.assert_allclose(curve.table(2, most), curve.table(2, 1000)[: most + 1], rtol=1e-12)
    assert curve.seconds(2, 9) == pytest.approx(1.5 + 0.2 * 9, rel=0.05)


@pytest.mark.parametrize("buckets", [None, Buckets((1, 4), (1, 4, 8))])
@pytest.mark.parametrize("depth", [0.0, 64.0, 500.0])
def test_a_short_table_says_the_same(depth: float, buckets: Buckets | None) -> None:
    curve = CostCurve({(1, 1): 1.0, (1, 4): 2.0, (1, 64): 5.0, (4, 4): 1.5, (4, 16): 4.0}, depth=64.0)
    curve.buckets = buckets
    generator = np.random.default_rng(0)
    for number in range(80):
        rows = 1 if number % 3 else 4
        for row_count in (1, 4):
            expected = curve.table(row_count, 40, hope=0.1)
            np.testing.assert_allclose(curve.short_table(row_count, 40, hope=0.1), expected, rtol=1e-12)
        tokens = int(rows * generator.integers(1, 8))
        curve.depth = depth * generator.random()
        curve.observe(rows, tokens, (1.0 + 0.2 * tokens) * generator.uniform(0.5, 1.5))


def test_what_length_adds_to_passes_is_learned_by_rows_and_by_tokens() -> None:
    def seconds(rows: int, tokens: int, depth: float) -> float:
        return 1.0 + 0.1 * tokens + depth * (2e-3 * rows + 1e-3 * tokens)

    curve = CostCurve({(1, n): seconds(1, n, 64) for n in (1, 2, 4, 8)}, depth=64)
    generator = np.random.default_rng(0)
    for number in range(300):
        curve.depth = 100.0 + 3 * number
        tokens = int(generator.integers(1, 6)) if number % 10 == 0 else 1
        curve.observe(1, tokens, seconds(1, tokens, curve.depth) * float(np.exp(0.05 * generator.standard_normal())))
    for depth in (64.0, 500.0, 2000.0):
        curve.depth = depth
        for tokens in (1, 3, 8):
            assert curve.seconds(1, tokens) == pytest.approx(seconds(1, tokens, depth), rel=0.1)


def test_where_passes_are_padded_each_costs_what_its_bucket_costs() -> None:
    curve = CostCurve({(1, n): 1.0 + n for n in range(1, 9)} | {(4, 4): 5.0, (4, 32): 33.0})
    curve.buckets = Buckets((1, 4), (1, 2, 4, 8))
    assert curve.table(1, 9) == pytest.approx([2, 2, 3, 5, 5, 9, 9, 9, 9, 10])
    assert curve.seconds(3, 7) == pytest.approx(1.0 + 4 * 4)
    for _ in range(100):  # what is observed of a pass is learned of its bucket
        curve.observe(1, 6, 4.5)
    assert curve.seconds(1, 5) == curve.seconds(1, 8) == pytest.approx(4.5, rel=0.1)


# Drafting


@pytest.mark.parametrize(
    "call, position, token", [(0.0, 0.2, 0.0), (0.5, 0.0, 0.0), (0.5, 0.0, 0.05)], ids=["draft model", "call", "lookup"]
)
def test_what_is_paid_for_is_found_from_drafts_of_different_shapes(call: float, position: float, token: float) -> None:
    cost = DraftCost()
    assert cost.seconds(4, 4) == 0.0  # nothing is known yet
    generator = np.random.default_rng(0)
    for _ in range(300):
        lengths = generator.integers(1, 9, size=generator.integers(1, 9))
        longest, tokens = int(lengths.max()), int(lengths.sum())
        cost.observe(longest, tokens, call + position * longest + token * tokens)
    for longest, tokens in ((2, 2), (5, 5), (5, 20), (8, 40)):
        assert cost.seconds(longest, tokens) == pytest.approx(call + position * longest + token * tokens, rel=0.15)


def test_prices_are_never_negative_and_follow_a_change() -> None:
    cost = DraftCost()
    for length in [1, 2, 3, 4] * 20:
        cost.observe(length, length, 1.0 - 0.1 * length)
    assert min(cost.prices) >= 0
    for length in [1, 2, 3, 4] * 100:
        cost.observe(length, length, 2.0 * length)
    assert cost.seconds(4, 4) == pytest.approx(8.0, rel=0.1)


def test_one_round_of_drafting_that_is_held_up_changes_little() -> None:
    cost = DraftCost()
    for _ in range(30):
        cost.observe(4, 4, 1.0)
    cost.observe(4, 4, 1000.0)
    for _ in range(15):
        cost.observe(4, 4, 1.0)
    assert cost.seconds(4, 4) < 1.25


# Means


def test_a_mean_is_that_of_all_values_at_first_and_later_that_of_the_last() -> None:
    mean = RunningMean()
    for value in (1.0, 2.0, 6.0):
        mean.add(value)
    assert mean.value == pytest.approx(3.0)
    for _ in range(200):
        mean.add(7.0)
    assert mean.value == pytest.approx(7.0, abs=0.01)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_equations_are_solved(size):
    generator = np.random.default_rng(size)
    for _ in range(20):
        factors = generator.normal(size=(size, size + 1))
        matrix = factors @ factors.T + 1e-6 * np.eye(size)
        x = generator.normal(size=size)
        assert solved(matrix.tolist(), (matrix @ x).tolist()) == pytest.approx(x.tolist(), rel=1e-5, abs=1e-5)
