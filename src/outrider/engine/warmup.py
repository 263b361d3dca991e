"""What passes of the target cost on this machine: measured when an engine opens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outrider.lookahead import CostCurve
from outrider.runtimes.base import Session
from outrider.runtimes.timing import time_passes

# The ends of the curve first, in case the time is up early.
TOKENS_OF_ONE_ROW = (1, 16, 4, 2, 8, 3)
TOKENS_OF_MANY_ROWS = (1, 4, 2)  # each
CONTEXT = 64  # tokens cached before, in all rows together
REPEATS = 2
SECONDS = 1.0  # after which no more passes are timed, for each number of rows
FEWEST = 2
SHORTEST = 1e-9  # seconds: a clock may be too coarse to see a pass

Points = dict[tuple[int, int], float]  # (rows, tokens of all rows together) -> seconds


def measure_costs(session: Session, vocab_size: int, clock: Callable[[], float]) -> CostCurve:
    """Time a few passes over an empty session: one row, and all rows where there are several.

    The faster of two passes counts: the first one pays for what is set up once, and other programs can only slow a pass
    down. That is rough but quick, and the curve learns from every later pass.

    Args:
        clock: tells seconds.
    """
    points: Points = {}
    depth = 0  # of one row, where it tells most
    for rows in sorted({1, session.rows}):
        context = min(max(CONTEXT // rows, 1), session.capacity // 2)
        room = session.capacity - context
        counts = TOKENS_OF_ONE_ROW if rows == 1 else TOKENS_OF_MANY_ROWS
        points |= _fastest(session, rows, context, [n for n in counts if n <= room], vocab_size, clock)
        depth = depth or context
    return CostCurve(points, depth)


def _fastest(
    session: Session, rows: int, context: int, counts: Sequence[int], vocab_size: int, clock: Callable[[], float]
) -> Points:
    begun = clock()
    passes = time_passes(
        session, rows=rows, context=context, counts=[*counts] * REPEATS, vocab_size=vocab_size, clock=clock
    )
    points: Points = {}
    for count, seconds in passes:
        point = rows, rows * count
        points[point] = min(max(seconds, SHORTEST), points.get(point, seconds))
        if len(points) >= FEWEST and clock() - begun > SECONDS:
            break
    for row in range(rows):
        session.release(row)
    return points
