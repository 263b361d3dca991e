"""What passes cost is measured as an engine opens."""

from collections import Counter
from time import perf_counter

import numpy as np
import pytest

from outrider.engine.warmup import measure_costs
from outrider.maths.buckets import Buckets
from outrider.runtimes.base import NOTHING, Pass, Scored
from tiny.tables import TARGET


class Ticking:
    """Every pass takes a second, and a tenth for each of its tokens; the first runs of a shape ten times as long.

    Args:
        slow: how many runs of a shape are the first ones.
    """

    def __init__(self, slow: int = 0) -> None:
        self.now = 0.0
        self.session = TARGET.open(4, 64)
        self.rows = 4
        self.capacity = 64
        self.slow = slow
        self.runs: Counter[tuple[int, ...]] = Counter()

    def extend(self, work: Pass) -> Scored:
        shape = tuple(map(len, work.tokens))
        self.runs[shape] += 1
        self.now += (1 + sum(shape) / 10) * (10 if self.runs[shape] <= self.slow else 1) * 1e-3
        return self.session.extend(work)

    def __getattr__(self, name):
        return getattr(self.session, name)


@pytest.mark.parametrize("buckets", [None, Buckets((1, 2, 4), (1, 2, 3, 4, 8, 16), 3)])
def test_costs_are_measured_with_the_clock_of_the_engine(buckets: Buckets | None) -> None:
    session = Ticking(0 if buckets is None else buckets.uses)
    costs = measure_costs(session, 5, lambda: session.now, NOTHING, buckets)
    for rows, tokens in ((1, 1), (1, 5), (1, 17), (4, 4), (4, 16), (2, 6)):
        assert 1000 * costs.seconds(rows, tokens) == pytest.approx(1 + tokens / 10)
    assert [session.length(row) for row in range(4)] == [0, 0, 0, 0]
    assert np.isfinite(costs.seconds(4, 400))


def test_where_time_runs_out_no_bucket_is_taken_for_what_its_first_runs_cost() -> None:
    session = Ticking(3)
    costs = measure_costs(session, 5, lambda: 50 * session.now, NOTHING, Buckets((1, 4), (1, 2, 4, 8, 16), 3))
    assert 4 <= len(costs.points) < 8
    for (_, tokens), seconds in costs.points.items():
        assert 20 * seconds == pytest.approx(1 + tokens / 10)


def test_what_a_padded_pass_costs_is_what_its_bucket_costs() -> None:
    buckets = Buckets((1, 6), (1, 2, 3, 5, 9, 17), 3)
    costs = measure_costs(TARGET.open(4, 64), 5, perf_counter, NOTHING, buckets)
    assert set(costs.points) == {(1, n) for n in (1, 2, 3, 5, 9, 17)} | {(6, 6 * n) for n in (1, 2, 5)}


@pytest.mark.parametrize(("slowness", "deep", "many"), [(1, True, True), (400, False, False)])
def test_the_first_text_does_not_pay_for_measuring_a_slow_model(slowness: int, deep: bool, many: bool) -> None:
    """A pass of one token takes 0.4 s: 64 tokens of context and 8 rows would take many of them."""
    session = Ticking()
    costs = measure_costs(session, 5, lambda: slowness * session.now, ragged=True)
    assert (costs.measured_depth > 1) == deep
    assert any(rows > 1 for rows, _ in costs.points) == many
    assert {(1, 1), (1, 17)} <= costs.points.keys()
    if not deep:
        tokens = sum(sum(shape) * runs for shape, runs in session.runs.items())
        assert tokens == 1 + 1 + 1 + 17  # one to know, one of context, and what is measured
        assert costs.seconds(4, 16) == costs.seconds(1, 16)
