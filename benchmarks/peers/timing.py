"""Times a peer that yields its tokens one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from outrider.bench.systems import Measurement, System


def timed(stream: Callable[[Sequence[int], int], Iterator[int]]) -> System:
    """A system from a function that yields the new tokens for a prompt and max_tokens."""

    def run(prompt: Sequence[int], max_tokens: int) -> Measurement:
        started = time.perf_counter()
        tokens: list[int] = []
        arrivals: list[float] = []
        for token in stream(prompt, max_tokens):
            arrivals.append(time.perf_counter())
            tokens.append(token)
        return measured(tokens, started, arrivals)

    return run


def measured(tokens: list[int], started: float, arrivals: Sequence[float]) -> Measurement:
    """A measurement from the arrival times of tokens, which come one by one or several at once.

    The first arrival ends the prefill. The time from there to the last arrival is decoding, scaled up to all tokens.

    Args:
        tokens: at least one.
        started: the time before the prefill, in seconds.
        arrivals: the time of each token, in seconds.
    """
    decoded = sum(arrival > arrivals[0] for arrival in arrivals)
    decoding = (arrivals[-1] - arrivals[0]) * len(tokens) / max(decoded, 1)
    return Measurement(tokens, arrivals[0] - started, decoding)
