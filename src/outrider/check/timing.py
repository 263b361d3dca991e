"""What verifying several tokens costs on this machine: measured, never assumed to be linear."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Model, Pass, prefill

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)


@dataclass(frozen=True, slots=True)
class Cost:
    """The time of one forward pass.

    Attributes:
        tokens: new tokens scored in it.
        seconds: the median.
        relative: to a pass over one token.
    """

    tokens: int
    seconds: float
    relative: float


def cost_curve(
    model: Model,
    *,
    counts: Sequence[int] = COUNTS,
    context: int = 128,
    repeats: int = 9,
    progress: Callable[[int, int], None] | None = None,
) -> list[Cost]:
    """Time forward passes over `counts` new tokens, interleaved, after `context` cached ones.

    Args:
        counts: the first one is what the others are relative to.
        repeats: passes of each count, after one that is not counted.
        progress: told (passes done, all passes).
    """
    longest = max(counts)
    context = min(context, model.traits.context_length - longest)
    tokens = [1 + number % (model.traits.vocab_size - 1) for number in range(context + longest)]
    session = model.open(1, context + longest)
    rest = prefill(session, 0, tokens[:context])
    session.extend(Pass([0], [rest], wanted=[0]))
    session.keep(0, range(len(rest)))
    times: dict[int, list[float]] = {count: [] for count in counts}
    for repeat in range(repeats + 1):
        for index, count in enumerate(counts):
            started = time.perf_counter()
            # Reading one number makes lazy and asynchronous runtimes finish.
            to_numpy(session.extend(Pass([0], [tokens[context : context + count]])).logits[-1])
            ended = time.perf_counter()
            session.truncate(0, context)
            if repeat:
                times[count].append(ended - started)
            if progress is not None:
                progress(repeat * len(counts) + index + 1, (repeats + 1) * len(counts))
    medians = {count: statistics.median(measured) for count, measured in times.items()}
    return [Cost(count, medians[count], medians[count] / medians[counts[0]]) for count in counts]
