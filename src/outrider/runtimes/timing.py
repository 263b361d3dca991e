"""Times forward passes over a few tokens: the one routine behind the engine's warm-up and `outrider doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import NOTHING, PREFILL_CHUNK, Features, Pass, Session


def time_passes(
    session: Session,
    *,
    rows: int,
    context: int,
    counts: Iterable[int],
    vocab_size: int,
    clock: Callable[[], float],
    features: Features = NOTHING,
) -> Iterator[tuple[int, float]]:
    """Prefill the first `rows` rows of an empty session, then time one pass after the other.

    Each pass is rolled back, so that the next one also starts after `context` tokens. The rows still hold the context
    when the caller stops.

    Args:
        context: tokens that each row holds before a pass.
        counts: new tokens of each row, for each pass.
        clock: seconds.
        features: what each pass returns besides logits.

    Yields:
        the count, and the seconds of the pass.
    """
    numbers = range(rows)
    for start in range(0, context, PREFILL_CHUNK):
        size = min(PREFILL_CHUNK, context - start)
        session.extend(Pass(numbers, _tokens(rows, start, size, vocab_size), wanted=[0] * rows))
        for row in numbers:
            session.keep(row, range(size))
    for count in counts:
        tokens = _tokens(rows, context, count, vocab_size)
        started = clock()
        # Lazy and asynchronous runtimes finish once a number is read.
        to_numpy(session.extend(Pass(numbers, tokens, features=features)).logits[-1:, :1])
        seconds = clock() - started
        for row in numbers:
            session.truncate(row, context)
        yield count, seconds


def _tokens(rows: int, start: int, count: int, vocab_size: int) -> list[list[int]]:
    """Any tokens, each different from the one before, and from those of other rows: a mixture of experts reads more for
    several texts than for one text several times."""
    starts = [start + row * vocab_size // rows for row in range(rows)]
    return [[number % vocab_size for number in range(first, first + count)] for first in starts]
