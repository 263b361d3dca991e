"""Several prompts at once against the same prompts one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from outrider.engine.engine import Engine
from outrider.engine.request import Request
from outrider.sampling import SamplingParams

PORTION = 4  # about so many times as many prompts as rows


@dataclass(frozen=True, slots=True)
class BatchRow:
    """What decoding several prompts at once brought one system.

    Attributes:
        alone, together: tokens per second, reading the prompts included.
        speedup: how many times as many together.
        tokens_alone, tokens_together: emitted; they differ where rounding changed a choice.
    """

    system: str
    rows: int
    prompts: int
    alone: float
    together: float
    speedup: float
    tokens_alone: int
    tokens_together: int


def run_batches(
    prompts: Sequence[Sequence[int]],
    systems: Mapping[str, Callable[[int, int], Engine]],
    rows: int,
    max_tokens: int,
    stop_token_ids: frozenset[int],
    sampling: SamplingParams,
    progress: Callable[[int, int], None] | None = None,
) -> list[BatchRow]:
    """Decode the prompts, `rows` of them at a time, the next one coming in as one ends, and one after the other.

    Systems take turns portion by portion. At the end of each the rows run empty, which is counted too.

    Args:
        systems: from rows and capacity to an engine.
        progress: told (portions done, all portions).
    """
    capacity = max(len(prompt) for prompt in prompts) + max_tokens
    engines = {
        (name, together): make(rows if together else 1, capacity)
        for name, make in systems.items()
        for together in (False, True)
    }
    seconds = dict.fromkeys(engines, 0.0)
    tokens = dict.fromkeys(engines, 0)
    count = max(round(len(prompts) / (PORTION * rows)), 1)
    size = -(-len(prompts) // count)
    portions = [prompts[first : first + size] for first in range(0, len(prompts), size)]
    for number, portion in enumerate(portions):
        requests = [Request(tuple(prompt), max_tokens, sampling, stop_token_ids) for prompt in portion]
        keys = list(engines)
        for key in keys[number % len(keys) :] + keys[: number % len(keys)]:
            started = time.perf_counter()
            tokens[key] += _decode(engines[key], requests)
            seconds[key] += time.perf_counter() - started
        if progress is not None:
            progress(number + 1, len(portions))
    found = []
    for name in systems:
        alone, together = (tokens[name, which] / seconds[name, which] for which in (False, True))
        found.append(
            BatchRow(
                name,
                rows,
                len(prompts),
                alone,
                together,
                together / alone,
                tokens[name, False],
                tokens[name, True],
            )
        )
    return found


def _decode(engine: Engine, requests: Sequence[Request]) -> int:
    sequences = [engine.submit(request) for request in requests]
    while not engine.idle:
        engine.step()
    for sequence in sequences:
        if sequence.error is not None:
            raise sequence.error
    return sum(len(sequence.output) for sequence in sequences)
