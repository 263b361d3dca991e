"""What it costs on this machine to verify several tokens; `outrider doctor` shows it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider.runtimes.base import Model
from outrider.runtimes.timing import time_passes

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
        counts: numbers of tokens; times are relative to that of the first one.
        repeats: passes of each count, after one that does not count.
        progress: called with (passes done, all passes).
    """
    context = min(context, model.traits.context_length - max(counts))
    passes = time_passes(
        model.open(1, context + max(counts)),
        rows=1,
        context=context,
        counts=[*counts] * (1 + repeats),
        vocab_size=model.traits.vocab_size,
        clock=time.perf_counter,
    )
    times: dict[int, list[float]] = {count: [] for count in counts}
    for done, (count, seconds) in enumerate(passes, start=1):
        if done > len(counts):  # the first pass of each count includes what is set up once
            times[count].append(seconds)
        if progress is not None:
            progress(done, (1 + repeats) * len(counts))
    medians = {count: statistics.median(measured) for count, measured in times.items()}
    return [Cost(count, medians[count], medians[count] / medians[counts[0]]) for count in counts]
