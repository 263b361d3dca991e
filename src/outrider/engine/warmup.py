"""What a pass of the target costs on this machine, measured when an engine opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from outrider.lookahead import CostCurve
from outrider.maths.buckets import Buckets
from outrider.maths.budget import USUAL_DRAFT
from outrider.runtimes.base import NOTHING, Features, Session
from outrider.runtimes.timing import time_passes

# The ends of the curve come first, in case time runs out. Kernels take 16 tokens at once: a draft of 16, with the
# pending token, may cost a step more than one of 15.
TOKENS_OF_ONE_ROW = (1, 17, 16, 4, 2, 8, 3)
TOKENS_OF_MANY_ROWS = (1, 4, 2)  # per row
WIDE_TOKENS_OF_ONE_ROW = (1, 128, 16, 512)  # the same where wide drafts may pay
WIDE_TOKENS_OF_MANY_ROWS = (1, 32, 4)
CONTEXT = 64  # cached tokens before a pass, in all rows together
REPEATS = 2  # passes of each size, once they are settled
SECONDS = 1.0  # for each number of rows; after that no more passes are timed
SLOW = 0.1  # seconds of a pass of one token, from which on several rows are not measured: the first text would pay
FEWEST = 2  # points of a curve
SHORTEST = 1e-9  # seconds: a coarse clock may say 0

Points = dict[tuple[int, int], float]  # (rows, tokens of all rows together) -> seconds


def measure_costs(
    session: Session,
    vocab_size: int,
    clock: Callable[[], float],
    features: Features = NOTHING,
    buckets: Buckets | None = None,
    widest: int = USUAL_DRAFT,
    ragged: bool = False,
) -> CostCurve:
    """Time a few passes over an empty session: with one row, and with all rows if there are several.

    The faster of two passes counts: the first one includes what is set up once, and other programs can only slow a pass
    down. This is rough and quick; every later pass refines the curve. A pass of a large model on a slow processor takes
    a second: then, where rows are `ragged`, the context is one token and several rows are not measured.

    Args:
        clock: seconds.
        features: what the passes of the engine return besides logits.
        buckets: the shapes to which passes are padded.
        widest: the most tokens of a draft.
        ragged: whether a pass of several rows costs about what its tokens cost in one.
    """
    points: Points = {}
    of_one, of_many = _counts(widest)
    depth = 0  # cached tokens of a row, in the measurement with one row
    whole_context = CONTEXT
    if ragged:
        first = next(iter(time_passes(session, rows=1, context=0, counts=[1], vocab_size=vocab_size, clock=clock)))
        whole_context = CONTEXT if CONTEXT * first[1] <= SECONDS else 1
    for rows in sorted({1, session.rows}):
        if rows > 1 and ragged and min(points.values()) > SLOW:
            break
        context = min(max(whole_context // rows, 1), session.capacity // 2)
        room = session.capacity - context
        counts = of_one if rows == 1 else of_many
        fitting = [n for n in counts if n <= room]
        # Where time runs out, few buckets are measured in full.
        repeats = REPEATS if buckets is None else REPEATS + buckets.uses
        order = fitting * repeats if buckets is None else [n for n in fitting for _ in range(repeats)]
        points |= _fastest(session, rows, context, order, buckets, vocab_size, clock, features)
        depth = depth or context
    return CostCurve(points, depth)


def longest_measured(widest: int) -> int:
    """The tokens that the measurement uses of a row."""
    return CONTEXT + max(_counts(widest)[0])


def _counts(widest: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """New tokens of a row: where there is one, and where there are several."""
    if widest <= USUAL_DRAFT:
        return TOKENS_OF_ONE_ROW, TOKENS_OF_MANY_ROWS
    return WIDE_TOKENS_OF_ONE_ROW, WIDE_TOKENS_OF_MANY_ROWS


def _fastest(
    session: Session,
    rows: int,
    context: int,
    counts: Sequence[int],
    buckets: Buckets | None,
    vocab_size: int,
    clock: Callable[[], float],
    features: Features,
) -> Points:
    """The fastest pass of each count; of each bucket, without its first uses, which take longer."""
    begun, runs = clock(), Counter[int]()
    passes = time_passes(
        session,
        rows=rows,
        context=context,
        counts=counts,
        vocab_size=vocab_size,
        clock=clock,
        features=features,
    )
    points: Points = {}
    for count, seconds in passes:
        runs[count] += 1
        point = rows, rows * count
        if buckets is not None:
            if runs[count] <= buckets.uses:
                continue
            point = buckets.padded_rows(rows), int(buckets.padded(rows, np.array([rows * count]))[0])
        points[point] = min(max(seconds, SHORTEST), points.get(point, seconds))
        if len(points) >= FEWEST and clock() - begun > SECONDS:
            break
    for row in range(rows):
        session.release(row)
    return points
