"""Texts in the making: fill the rows of an engine with the next jobs, step, write what is finished."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from outrider.drafters.base import Drafter
from outrider.engine.engine import Engine
from outrider.engine.events import TokenEvent
from outrider.engine.handle import Handle
from outrider.engine.record import Observer, RoundRecord
from outrider.errors import InputError, SettingError
from outrider.jobs.jobs import Job
from outrider.jobs.progress import Progress
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy
from outrider.maths.rules import Rule, RuleName
from outrider.prompts.files import Id
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.base import Model


class Upcoming(Protocol):
    """The next jobs with their requests, in order."""

    @property
    def next(self) -> tuple[Job, PreparedRequest | InputError] | None:
        """The next one; None where there is none now."""

    def take(self) -> None:
        """The next one is done with."""


class Sink(Protocol):
    """Takes results."""

    def write(self, id: Id, fingerprint: str, result: Mapping[str, Any]) -> None:
        """Add a result."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How jobs are decoded; each as for an Engine."""

    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = None
    rule: RuleName | Rule = "token"
    memory_limit: int | None = None

    def open(
        self,
        target: Model,
        drafter: Drafter | None,
        rows: int,
        capacity: int,
        observers: Sequence[Observer],
        clock: Callable[[], float],
    ) -> Engine:
        """An engine with as many waiting requests as it has rows.

        Args:
            capacity: tokens of a row; no more than the target takes are reserved.

        Raises:
            SettingError: an unknown rule, a number out of its range, or rows that do not fit into memory.
        """

        def tell(record: RoundRecord) -> None:
            for observer in observers:
                observer(record)

        return Engine(
            target,
            drafter,
            lookahead=self.lookahead,
            rule=self.rule,
            max_rows=rows,
            capacity=min(capacity, target.traits.context_length),
            max_waiting=rows,
            memory_limit=self.memory_limit,
            observer=tell,
            clock=clock,
        )


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


@dataclass
class Decoding:
    """The texts that are decoded now."""

    upcoming: Upcoming
    engine_of: Callable[[int], Engine]
    results: Sink
    progress: Progress
    context_length: int
    engine: Engine | None = None
    texts: dict[int, _Text] = field(default_factory=dict)

    def open_engine(self, requests: Sequence[PreparedRequest]) -> None:
        """With rows for all of these; with none there is no engine before the first text."""
        if requests:
            self.engine = self.engine_of(max(_length(request) for request in requests))

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


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def _error(error: Exception) -> dict[str, Any]:
    return {"finish_reason": "error", "error": " ".join(str(error).split())}
