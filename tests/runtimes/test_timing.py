"""Timing passes: each starts after the same context, and only the pass itself is timed."""

from outrider import TableModel
from outrider.check.timing import cost_curve
from outrider.runtimes.base import PREFILL_CHUNK, Pass, Scored
from outrider.runtimes.stateless import StatelessSession
from outrider.runtimes.timing import time_passes

MODEL = TableModel.random(7, 1, seed=0)
LONG = 2 * PREFILL_CHUNK + 10


class Ticking(StatelessSession):
    """Every pass takes a second for each of its tokens; remembers where each began."""

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__(MODEL, rows, capacity)
        self.now = 0.0
        self.begun: list[list[int]] = []

    def extend(self, work: Pass) -> Scored:
        self.begun.append([self.length(row) for row in work.rows])
        self.now += sum(map(len, work.tokens))
        return super().extend(work)


def test_passes_start_after_the_context_and_are_timed_one_by_one() -> None:
    session = Ticking(3, LONG + 8)
    passes = time_passes(session, rows=2, context=LONG, counts=[1, 8, 1], vocab_size=7, clock=lambda: session.now)
    assert list(passes) == [(1, 2.0), (8, 16.0), (1, 2.0)]
    assert session.begun == [[start] * 2 for start in (0, PREFILL_CHUNK, 2 * PREFILL_CHUNK, LONG, LONG, LONG)]
    assert [session.length(row) for row in range(3)] == [LONG, LONG, 0]


def test_rows_of_a_timed_pass_hold_different_tokens() -> None:
    """Several texts ask more of the experts of a mixture than one text several times."""
    read: list[list[int]] = []

    class Reading(Ticking):
        def extend(self, work: Pass) -> Scored:
            read.extend(list(tokens) for tokens in work.tokens)
            return super().extend(work)

    list(time_passes(Reading(3, 20), rows=3, context=5, counts=[1, 4], vocab_size=7, clock=lambda: 0.0))
    for at in range(0, 9, 3):
        assert len({tuple(tokens) for tokens in read[at : at + 3]}) == 3


def test_no_more_passes_run_than_are_asked_for() -> None:
    session = Ticking(1, 20)
    passes = time_passes(session, rows=1, context=4, counts=[1] * 9, vocab_size=7, clock=lambda: session.now)
    assert next(passes) == next(passes) == (1, 1.0)
    assert len(session.begun) == 3


def test_a_curve_counts_every_pass_but_the_first_of_each_count() -> None:
    done: list[tuple[int, int]] = []
    costs = cost_curve(MODEL, counts=(2, 4), context=5, repeats=3, progress=lambda *each: done.append(each))
    assert [cost.tokens for cost in costs] == [2, 4]
    assert costs[0].relative == 1
    assert all(cost.seconds > 0 for cost in costs)
    assert done == [(number, 8) for number in range(1, 9)]
