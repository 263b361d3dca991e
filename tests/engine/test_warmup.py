"""What passes cost is measured as an engine opens."""

import numpy as np
import pytest

from outrider.engine.warmup import measure_costs
from outrider.runtimes.base import Pass, Scored
from tiny.tables import TARGET


def test_costs_are_measured_with_the_clock_of_the_engine() -> None:
    class Ticking:
        """Every pass takes a second, and a tenth for each of its tokens."""

        def __init__(self) -> None:
            self.now = 0.0
            self.session = TARGET.open(4, 64)
            self.rows = 4
            self.capacity = 64

        def extend(self, work: Pass) -> Scored:
            self.now += 1 + sum(map(len, work.tokens)) / 10
            return self.session.extend(work)

        def __getattr__(self, name):
            return getattr(self.session, name)

    session = Ticking()
    costs = measure_costs(session, 5, lambda: session.now)
    for rows, tokens in ((1, 1), (1, 5), (1, 17), (4, 4), (4, 16), (2, 6)):
        assert costs.seconds(rows, tokens) == pytest.approx(1 + tokens / 10)
    assert [session.length(row) for row in range(4)] == [0, 0, 0, 0]
    assert np.isfinite(costs.seconds(4, 400))
