"""What passes of the target cost on this machine: measured when an engine opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outrider.lookahead import CostCurve
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass, Session

# The ends of the curve first, in case the time is up early.
TOKENS_OF_ONE_ROW = (1, 16, 4, 2, 8, 3)
TOKENS_OF_MANY_ROWS = (1, 4, 2)  # each
CONTEXT = 64  # tokens cached before, in all rows together
REPEATS = 2
SECONDS = 1.0  # after which no more passes are timed, for each number of rows
FEWEST = 2


def measure_costs(session: Session, vocab_size: int, clock: Callable[[], float]) -> CostCurve:
    """Time a few passes over an empty session: one row, and all rows where there are several.

    The faster of two counts: the first pays for what is set up once, and whatever else runs can only add. That is
    rough, but soon over, and the passes that follow refine it.
    """
    points: dict[tuple[int, int], float] = {}
    depth = 0  # of one row, where it tells most
    for rows in sorted({1, session.rows}):
        context = min(max(CONTEXT // rows, 1), session.capacity // 2)
        room = session.capacity - context
        counts = TOKENS_OF_ONE_ROW if rows == 1 else TOKENS_OF_MANY_ROWS
        points |= _measure(session, rows, context, [n for n in counts if n <= room], vocab_size, clock)
        depth = depth or context
    return CostCurve(points, depth)


def _measure(
    session: Session, rows: int, context: int, counts: Sequence[int], vocab_size: int, clock: Callable[[], float]
) -> dict[tuple[int, int], float]:
    numbers = range(rows)
    tokens = [number % vocab_size for number in range(1, context + max(counts) + 1)]
    begun = clock()
    if context:
        session.extend(Pass(numbers, [tokens[:context]] * rows, wanted=[0] * rows))
        for row in numbers:
            session.keep(row, range(context))
    points: dict[tuple[int, int], float] = {}
    for count in [*counts] * REPEATS:
        if len(points) >= FEWEST and clock() - begun > SECONDS:
            break
        started = clock()
        # Reading one number makes lazy and asynchronous runtimes finish.
        to_numpy(session.extend(Pass(numbers, [tokens[context : context + count]] * rows)).logits[-1:, :1])
        seconds = clock() - started
        for row in numbers:
            session.truncate(row, context)
        point = (rows, rows * count)
        points[point] = min(max(seconds, 1e-9), points.get(point, seconds))
    for row in numbers:
        session.release(row)
    return points
