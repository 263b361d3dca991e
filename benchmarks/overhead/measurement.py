"""The engine's own time in a round: everything but the passes of models and drafters."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from outrider.drafters.base import DraftedSequence, Drafter
from outrider.engine.engine import Engine
from outrider.engine.record import RoundRecord
from outrider.lookahead import Goodput
from outrider.maths.arrays import Array
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft
from outrider.maths.rules import RULES, Rule
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import Request
from outrider.runtimes.base import NOTHING, Features, Pass, Scored, Traits
from outrider.runtimes.ledger import Ledger, scored
from outrider.text import Tokenizer

VOCABULARY = 49_152  # of SmolLM2
FEW_TOKENS = 16  # a vocabulary so small that arithmetic over it takes no time
DRAFT = (1, 2, 3, 4)
LOOKAHEAD = len(DRAFT)
IMPROBABLE = -30.0  # a logit so low that every draft token is rejected
PROMPT = 64  # tokens
ROUNDS = 200
WARM_UP = 20
TOP = 8  # most probable tokens that a drafter asks for
GREEDY = SamplingParams(temperature=0, seed=0)
SAMPLING = {
    "greedy": (GREEDY, RULES["token"], NOTHING),
    f"greedy, top {TOP} for the drafter": (GREEDY, RULES["token"], Features(top=TOP)),
    **{f"sampled, {rule}": (SamplingParams(seed=0), rule, NOTHING) for rule in RULES.values()},
}


@dataclass(frozen=True, slots=True)
class Overhead:
    """The engine's own time.

    Attributes:
        library: the array library of the logits, and their precision.
        sampling: greedy, or sampled under a rule.
        milliseconds: the median of the rounds.
        milliseconds_of_code: the same with a vocabulary of FEW_TOKENS: the time of planning, judging and bookkeeping.
            The rest is arithmetic over the vocabulary.
    """

    library: str
    sampling: str
    rows: int
    milliseconds: float
    milliseconds_of_code: float


class _Stopwatch:
    """Adds up the time that is not the engine's."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *unused: object) -> None:
        self.seconds += time.perf_counter() - self._started


class _Instant:
    """A model that is its own session; its logits are computed beforehand.

    Args:
        weights: what each pass reads, as a real one reads its weights: code and data of the round are then no longer in
            the processor's caches.
    """

    name = "instant"
    tokenizer: Tokenizer | None = None

    def __init__(self, logits: Array, stopwatch: _Stopwatch, weights: np.ndarray[Any, Any]) -> None:
        self.traits = Traits(int(logits.shape[-1]), 100_000)
        self._weights = weights
        self._logits = logits
        self._stopwatch = stopwatch

    def open(self, rows: int, capacity: int) -> _Instant:
        self.rows, self.capacity = rows, capacity
        self._ledger = Ledger(rows, capacity)
        self.keep, self.truncate, self.length = self._ledger.keep, self._ledger.truncate, self._ledger.length
        self.adopt = self._ledger.adopt
        return self

    def release(self, row: int) -> None:
        self._ledger.truncate(row, 0)

    def extend(self, work: Pass) -> Scored:
        with self._stopwatch:
            self._ledger.extend(work.rows, work.tokens, work.parents)
            logits = self._logits[: sum(work.wanted_counts)]
            self._weights.max(initial=0)
        return scored(work, logits)  # the most probable tokens are looked for by Outrider, not by the model

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        raise NotImplementedError  # it is not a draft model

    def free_bytes(self) -> int | None:
        return None


class _InstantDrafter(Drafter):
    """Always drafts the same tokens."""

    name = "instant"

    def __init__(self, stopwatch: _Stopwatch, wants: Features) -> None:
        self._stopwatch = stopwatch
        self.wants = wants

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        with self._stopwatch:
            return [Draft(DRAFT[: budget.longest]) for budget in budgets]


class _Planned(Goodput):
    """Spends the time of Goodput's planning, then returns the lookahead to measure."""

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        super().plan(sequences)
        return [LOOKAHEAD] * len(sequences)


def measure_overhead(
    rows: int,
    sampling: SamplingParams,
    rule: Rule,
    wants: Features,
    make_logits: Callable[[np.ndarray[Any, Any]], Array],
    vocab_size: int,
    rounds: int,
    weights: int = 0,
) -> float:
    """Median seconds per round that the engine itself takes: planning, judging, bookkeeping and a record.

    Args:
        wants: what the drafter asks of each pass; finding it counts.
        make_logits: converts a NumPy array to the library to measure.
        weights: megabytes that each pass reads.
    """
    stopwatch = _Stopwatch()
    generator = np.random.default_rng(0)
    numbers = generator.normal(0, 3, (rows * (1 + LOOKAHEAD), vocab_size)).astype(np.float32)
    numbers[:, list(DRAFT)] = IMPROBABLE
    logits = make_logits(numbers)
    records: list[RoundRecord] = []
    engine = Engine(
        _Instant(logits, stopwatch, np.ones(weights * 2**20, dtype=np.uint8)),
        _InstantDrafter(stopwatch, wants),
        lookahead=_Planned(),
        rule=rule,
        max_rows=rows,
        capacity=PROMPT + (1 + LOOKAHEAD) * (rounds + WARM_UP + PROMPT),
        observer=records.append,
    )
    for _ in range(rows):
        engine.submit(Request((1,) * PROMPT, engine.capacity - PROMPT, sampling))
    own = []
    for number in range(WARM_UP + rounds):
        stopwatch.seconds = 0.0
        started = time.perf_counter()
        engine.step()
        if number >= WARM_UP:
            own.append(time.perf_counter() - started - stopwatch.seconds)
    return statistics.median(own)


def measure_overheads(weights: int = 0, progress: Callable[[int, int], None] | None = None) -> list[Overhead]:
    """One row and 16 rows, greedy and sampled under each rule; with NumPy, and with PyTorch if it is installed.

    Args:
        weights: megabytes that each pass reads.
        progress: called with (measurements done, all measurements).
    """
    libraries: dict[str, Callable[[np.ndarray[Any, Any]], Array]] = {"numpy, float32": lambda array: array}
    try:
        import torch
    except ImportError:
        pass
    else:
        libraries["torch, float32"] = torch.from_numpy
        libraries["torch, bfloat16"] = lambda array: torch.from_numpy(array).bfloat16()
    cases = [(library, sampling, rows) for library in libraries for sampling in SAMPLING for rows in (1, 16)]
    found = []
    for number, (library, sampling, rows) in enumerate(cases):
        whole, code = (
            1000 * measure_overhead(rows, *SAMPLING[sampling], libraries[library], size, ROUNDS, weights)
            for size in (VOCABULARY, FEW_TOKENS)
        )
        found.append(Overhead(library, sampling, rows, whole, code))
        if progress is not None:
            progress(number + 1, len(cases))
    return found
