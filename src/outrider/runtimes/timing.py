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
        chunk = _tokens(start, min(PREFILL_CHUNK, context - start), vocab_size)
        session.extend(Pass(numbers, [chunk] * rows, wanted=[0] * rows))
        for row in numbers:
            session.keep(row, range(len(chunk)))
    for count in counts:
        tokens = _tokens(context, count, vocab_size)
        started = clock()
        # Lazy and asynchronous runtimes finish once a number is read.
        to_numpy(session.extend(Pass(numbers, [tokens] * rows, features=features)).logits[-1:, :1])
        seconds = clock() - started
        for row in numbers:
            session.truncate(row, context)
        yield count, seconds


def _tokens(start: int, count: int, vocab_size: int) -> list[int]:
    """Any tokens, each different from the one before."""
    return [number % vocab_size for number in range(start, start + count)]
