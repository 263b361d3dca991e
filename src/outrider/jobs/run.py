"""One engine, many jobs: prepare what there is room for, step, write what is finished.

Prompts are read, checked and tokenised as they are needed. So a long file costs neither time nor memory at the start.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from outrider.drafters.base import Drafter
from outrider.engine.engine import Engine
from outrider.engine.events import TokenEvent
from outrider.engine.handle import Handle
from outrider.engine.record import Observer, RoundRecord
from outrider.errors import InputError, OutriderError, SettingError
from outrider.jobs.jobs import Job, Jobs, Preparation
from outrider.jobs.results import Results
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy
from outrider.maths.rules import Rule, RuleName
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.base import Model

AHEAD = 4  # times the rows: prompts that are tokenised before the engine opens, which tell how long rows must be


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        total: prompts.
        before: results that were there already.
        finished: results of this run, errors included.
        decoded: those of them that took time.
        failed: results that are errors, those of before included.
        emitted, rounds, drafted, accepted: tokens, and the rounds of all texts, in this run; of texts that are not
            finished too.
        seconds: since decoding began.
        seconds_drafting, seconds_verification, seconds_elsewhere: the phases of the rounds.
    """

    total: int
    before: int
    finished: int = 0
    decoded: int = 0
    failed: int = 0
    emitted: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: float = 0.0
    seconds_drafting: float = 0.0
    seconds_verification: float = 0.0
    seconds_elsewhere: float = 0.0

    @property
    def done(self) -> int:
        return self.before + self.finished

    @property
    def tokens_per_second(self) -> float:
        return self.emitted / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """If the prompts to come take what those of this run took; None before the first."""
        return self.seconds / self.decoded * (self.total - self.done) if self.decoded else None

    def count(self, record: RoundRecord) -> None:
        self.seconds_drafting += record.seconds_drafting
        self.seconds_verification += record.seconds_verification
        self.seconds_elsewhere += record.seconds_elsewhere
        for part in record.sequences:
            self.emitted += len(part.tokens)
            self.rounds += bool(part.tokens)
            self.drafted += part.drafted
            self.accepted += part.accepted


@dataclass(slots=True)
class _Text:
    """A job in the making."""

    job: Job
    request: PreparedRequest
    handle: Handle
    pieces: list[str] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    top_logprobs: list[dict[int, float | None]] = field(default_factory=list)

    def add(self, event: TokenEvent) -> None:
        self.pieces.append(event.text)
        if event.logprob is not None:
            self.logprobs.append(_finite(event.logprob))
        if event.top_logprobs is not None:
            self.top_logprobs.append({token: _finite(value) for token, value in event.top_logprobs.items()})

    def result(self) -> dict[str, Any]:
        assert self.handle.finish_reason is not None
        if self.handle.error is not None:
            return _error(self.handle.error)
        result: dict[str, Any] = {
            "text": "".join(self.pieces),
            "tokens": self.handle.tokens,
            "finish_reason": str(self.handle.finish_reason),
            "seed": self.job.seed,
            "stats": self.handle.stats.as_dict(),
        }
        if self.request.logprobs:
            result["logprobs"] = self.logprobs
        if self.request.top_logprobs:
            result["top_logprobs"] = self.top_logprobs
        return result


def run(
    jobs: Jobs,
    results: Results,
    open_models: Callable[[], tuple[Model, Drafter | None]],
    *,
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = None,
    rule: RuleName | Rule = "token",
    max_rows: int = 8,
    memory_limit: int | None = None,
    observer: Observer | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Progress:
    """Decode what has no result yet, and write each result as soon as there is one.

    Under the rule `coupled` a result depends on target, prompt, settings and seed alone. Under the others that holds
    where texts are greedy; sampled ones depend on drafter and lookahead too, and a lookahead that is chosen by measured
    time, None, is another each time. Neither `max_rows`, nor the order, nor an interruption changes the distribution.

    Prompts are checked when they are read. Where one cannot be used, the texts before it are finished first.

    Args:
        results: what it holds already is left out.
        open_models: target and drafter; called if there is something left to decode.
        lookahead, rule, max_rows, memory_limit: as for an Engine. Its rows are made as long as the next prompts need;
            where a later one needs more, the engine is opened again with longer rows once its texts are finished.
        observer: as for an Engine.
        report: told after every round.

    Raises:
        InputError: a prompt cannot be used, or `results` holds something else, or cannot be written.
        SettingError: an unknown rule, a number out of its range, or rows that do not fit into memory.
    """
    if max_rows < 1:
        raise SettingError(f"max_rows is {max_rows}: it must be at least 1")
    known = results.recover(jobs)
    left = (job for job in jobs if job.key not in known)
    progress = Progress(len(jobs), len(known), failed=sum(not fine for fine in known.values()))
    first = next(left, None)
    if first is None:
        results.start()
        report(progress)
        return progress
    target, drafter = open_models()
    observers = [progress.count] if observer is None else [progress.count, observer]
    preparation = Preparation(target, jobs.common)
    upcoming = _Upcoming(chain([first], left), preparation, AHEAD * max_rows)

    def engine(capacity: int) -> Engine:
        rows = min(max_rows, max(1, len(upcoming.requests))) if upcoming.ended else max_rows
        return Engine(
            target,
            drafter,
            lookahead=lookahead,
            rule=rule,
            max_rows=rows,
            capacity=min(capacity, target.traits.context_length),
            max_waiting=rows,
            memory_limit=memory_limit,
            observer=lambda record: _tell(observers, record),
            clock=clock,
        )

    decoding = _Decoding(upcoming, engine, results, progress, target.traits.context_length)
    if upcoming.failure is not None:
        raise upcoming.failure
    decoding.open_engine()
    results.start()
    report(progress)
    started = clock()
    while decoding.step():
        progress.seconds = clock() - started
        report(progress)
    report(progress)
    if upcoming.failure is not None:
        raise upcoming.failure
    return progress


class _Upcoming:
    """The next jobs with their requests, in order; `ahead` of them are made at the beginning, each other on demand.

    Attributes:
        failure: why there are no more, where that is not the end of the file.
        ended: nothing comes behind those that are made already.
    """

    def __init__(self, jobs: Iterator[Job], preparation: Preparation, ahead: int) -> None:
        self._jobs, self._preparation = jobs, preparation
        self._made: deque[tuple[Job, PreparedRequest | InputError]] = deque()
        self.failure: OutriderError | None = None
        self.ended = False
        while len(self._made) < ahead and not self.ended:
            self._make()

    @property
    def requests(self) -> list[PreparedRequest]:
        """Those that are made already."""
        return [request for _, request in self._made if isinstance(request, PreparedRequest)]

    @property
    def next(self) -> tuple[Job, PreparedRequest | InputError] | None:
        """The next one; None where there is none."""
        if not self._made and not self.ended:
            self._make()
        return self._made[0] if self._made else None

    def take(self) -> None:
        """The next one is done with."""
        self._made.popleft()

    def _make(self) -> None:
        try:
            job = next(self._jobs, None)
            if job is not None:
                self._made.append((job, self._preparation.request(job)))
        except OutriderError as error:
            job, self.failure = None, error
        self.ended = job is None


@dataclass
class _Decoding:
    """The texts that are decoded now."""

    upcoming: _Upcoming
    engine_of: Callable[[int], Engine]
    results: Results
    progress: Progress
    context_length: int
    engine: Engine | None = None
    texts: dict[int, _Text] = field(default_factory=dict)

    def open_engine(self) -> None:
        """With rows for all requests that are known; with none before there is one."""
        if self.upcoming.requests:
            self.engine = self.engine_of(max(_length(request) for request in self.upcoming.requests))

    def step(self) -> bool:
        """Fill the rows, and run a round; False where nothing is left."""
        self._fill()
        if self.engine is None or not self.texts:
            return False
        for event in self.engine.step():
            self.texts[event.sequence].add(event)
        for text in self._take_finished():
            self._finish(text.job, text.result())
            self.progress.decoded += 1
        return True

    def _fill(self) -> None:
        while (found := self.upcoming.next) is not None:
            job, request = found
            if isinstance(request, InputError):
                self._finish(job, _error(request))
            elif not self._fits(request):
                if self.texts:
                    return  # they are finished first
                self._widen(_length(request))
                continue
            elif self.engine is None or not self.engine.has_room:
                return
            else:
                self._submit(self.engine, job, request)
            self.upcoming.take()

    def _fits(self, request: PreparedRequest) -> bool:
        wanted = min(_length(request), self.context_length)
        return self.engine is not None and wanted <= self.engine.capacity

    def _widen(self, length: int) -> None:
        """Open the engine again, with rows of twice the length where there is memory for them."""
        before = 0 if self.engine is None else self.engine.capacity
        self.engine = None  # first, so that its memory is free
        try:
            self.engine = self.engine_of(max(2 * before, length))
        except SettingError:
            self.engine = self.engine_of(length)

    def _submit(self, engine: Engine, job: Job, request: PreparedRequest) -> None:
        try:
            handle = engine.submit(request)
        except InputError as error:
            self._finish(job, _error(error))
        else:
            self.texts[handle.id] = _Text(job, request, handle)

    def _take_finished(self) -> list[_Text]:
        ended = [id for id, text in self.texts.items() if text.handle.finish_reason is not None]
        return [self.texts.pop(id) for id in ended]

    def _finish(self, job: Job, result: dict[str, Any]) -> None:
        self.results.write(job.id, job.fingerprint, result)
        self.progress.finished += 1
        self.progress.failed += "error" in result


def _length(request: PreparedRequest) -> int:
    return len(request.prompt) + request.max_tokens


def _tell(observers: Sequence[Observer], record: RoundRecord) -> None:
    for observer in observers:
        observer(record)


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def _error(error: Exception) -> dict[str, Any]:
    return {"finish_reason": "error", "error": " ".join(str(error).split())}
