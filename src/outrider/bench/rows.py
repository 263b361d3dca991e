"""Several prompts at once, compared with the same prompts one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.engine.record import Observer, RoundRecord
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import Request
from outrider.trace import summarise

TURN = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class RowsMeasurement:
    """What one system gains by decoding several prompts at once.

    Attributes:
        alone, together: tokens per second of decoding. Where a pass reads prompts and verifies, its tokens share its
            time (`Statistics.seconds_prefill`).
        speedup: together / alone.
        alone_with_prompts, together_with_prompts, speedup_with_prompts: the same with the prefill included.
        tokens_alone, tokens_together: emitted tokens; they differ where rounding changed a choice.
    """

    system: str
    rows: int
    prompts: int
    alone: float
    together: float
    speedup: float
    alone_with_prompts: float
    together_with_prompts: float
    speedup_with_prompts: float
    tokens_alone: int
    tokens_together: int


class _Run:
    """One engine that works through the prompts in turns.

    Attributes:
        seconds: the time of its turns so far.
    """

    def __init__(self, make: Callable[[Observer], Engine], requests: Sequence[Request]) -> None:
        self._records: list[RoundRecord] = []
        self._engine = make(self._records.append)
        self._waiting = list(reversed(requests))
        self._asked = len(requests)
        self._handles: list[Handle] = []
        self.seconds = 0.0

    @property
    def share(self) -> float:
        """The share of the prompts that are answered."""
        unanswered = len(self._waiting) + len(self._engine.waiting) + len(self._engine.active)
        return 1 - unanswered / self._asked

    @property
    def tokens(self) -> int:
        return sum(len(handle.tokens) for handle in self._handles)

    @property
    def tokens_per_second(self) -> float:
        return summarise(self._records).statistics.tokens_per_second

    @property
    def tokens_per_second_with_prompts(self) -> float:
        return self.tokens / self.seconds

    def take_turn(self) -> None:
        started = time.perf_counter()
        while self.share < 1 and time.perf_counter() - started < TURN:
            while self._waiting and self._engine.has_room:
                self._handles.append(self._engine.submit(self._waiting.pop()))
            self._engine.step()
        self.seconds += time.perf_counter() - started
        for handle in self._handles:
            if handle.error is not None:
                raise handle.error


def measure_rows(
    prompts: Sequence[Sequence[int]],
    systems: Mapping[str, Callable[[int, int, Observer], Engine]],
    rows: int,
    max_tokens: int,
    stop_token_ids: frozenset[int],
    sampling: SamplingParams,
    progress: Callable[[int, int], None] | None = None,
) -> list[RowsMeasurement]:
    """Decode the prompts twice: `rows` at a time (the next one starts when one ends), and one after the other.

    All systems run at once, in turns of a few seconds, and the next turn goes to the one that is furthest behind. So a
    machine that is slow for a while is slow for all of them.

    Args:
        systems: each makes an engine from rows, capacity and an observer.
        progress: called with (prompts answered, all prompts), over all systems together.
    """
    capacity = max(len(prompt) for prompt in prompts) + max_tokens
    requests = [Request(tuple(prompt), max_tokens, sampling, stop_token_ids, detokenize=False) for prompt in prompts]
    runs = {
        (name, together): _Run(partial(make, rows if together else 1, capacity), requests)
        for name, make in systems.items()
        for together in (False, True)
    }
    while (behind := min(runs.values(), key=lambda run: run.share)).share < 1:
        behind.take_turn()
        if progress is not None:
            progress(round(sum(run.share for run in runs.values()) * len(prompts)), len(runs) * len(prompts))
    found = []
    for name in systems:
        alone, together = runs[name, False], runs[name, True]
        found.append(
            RowsMeasurement(
                name,
                rows,
                len(prompts),
                alone.tokens_per_second,
                together.tokens_per_second,
                together.tokens_per_second / alone.tokens_per_second,
                alone.tokens_per_second_with_prompts,
                together.tokens_per_second_with_prompts,
                together.tokens_per_second_with_prompts / alone.tokens_per_second_with_prompts,
                alone.tokens,
                together.tokens,
            )
        )
    return found
