"""One engine, many jobs: submit what there is room for, step, write what is finished."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.base import Drafter
from outrider.engine.engine import Engine
from outrider.engine.events import TokenEvent
from outrider.engine.handle import Handle
from outrider.engine.record import Observer, RoundRecord
from outrider.errors import InputError, SettingError
from outrider.jobs.jobs import Job
from outrider.jobs.results import Results
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy
from outrider.maths.rules import Rule, RuleName
from outrider.prompts.files import key_of
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.base import Model


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
        assert isinstance(self.job.request, PreparedRequest)
        if self.job.request.logprobs:
            result["logprobs"] = self.logprobs
        if self.job.request.top_logprobs:
            result["top_logprobs"] = self.top_logprobs
        return result


def run(
    jobs: Sequence[Job],
    results: Results,
    target: Model,
    drafter: Drafter | None,
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

    Args:
        results: what it holds already is left out.
        drafter, lookahead, rule, max_rows, memory_limit: as for an Engine, whose rows are made as long as the longest
            job needs.
        observer: as for an Engine.
        report: told after every round.

    Raises:
        InputError: `results` holds something else, or cannot be written.
        SettingError: an unknown rule, a number out of its range, or rows that do not fit into memory.
    """
    if max_rows < 1:
        raise SettingError(f"max_rows is {max_rows}: it must be at least 1")
    known = results.recover({key_of(job.id): job.fingerprint for job in jobs})
    left = [job for job in jobs if key_of(job.id) not in known]
    progress = Progress(len(jobs), len(known), failed=sum(not fine for fine in known.values()))
    observers = [progress.count] if observer is None else [progress.count, observer]
    requests = [job.request for job in left if isinstance(job.request, PreparedRequest)]
    engine = None
    if requests:
        longest = max(len(request.prompt) + request.max_tokens for request in requests)
        rows = min(max_rows, len(requests))
        engine = Engine(
            target,
            drafter,
            lookahead=lookahead,
            rule=rule,
            max_rows=rows,
            capacity=min(longest, target.traits.context_length),
            max_waiting=rows,
            memory_limit=memory_limit,
            observer=lambda record: _tell(observers, record),
            clock=clock,
        )

    def finish(job: Job, result: dict[str, Any]) -> None:
        results.write(job.id, job.fingerprint, result)
        progress.finished += 1
        progress.failed += "error" in result

    results.start()
    report(progress)
    for job in left:
        if isinstance(job.request, InputError):
            finish(job, _error(job.request))
    if engine is not None:
        waiting = deque(job for job in left if isinstance(job.request, PreparedRequest))
        texts: dict[int, _Text] = {}
        started = clock()
        while waiting or texts:
            _submit(engine, waiting, texts, finish)
            for event in engine.step():
                texts[event.sequence].add(event)
            for text in _take_finished(texts):
                finish(text.job, text.result())
                progress.decoded += 1
            progress.seconds = clock() - started
            report(progress)
    return progress


def _submit(
    engine: Engine, waiting: deque[Job], texts: dict[int, _Text], finish: Callable[[Job, dict[str, Any]], None]
) -> None:
    while waiting and engine.has_room:
        job = waiting.popleft()
        assert isinstance(job.request, PreparedRequest)
        try:
            handle = engine.submit(job.request)
        except InputError as error:
            finish(job, _error(error))
        else:
            texts[handle.id] = _Text(job, handle)


def _tell(observers: Sequence[Observer], record: RoundRecord) -> None:
    for observer in observers:
        observer(record)


def _take_finished(texts: dict[int, _Text]) -> Iterable[_Text]:
    ended = [id for id, text in texts.items() if text.handle.finish_reason is not None]
    return [texts.pop(id) for id in ended]


def _finite(value: float) -> float | None:
    """JSON knows no infinity."""
    return value if math.isfinite(value) else None


def _error(error: Exception) -> dict[str, Any]:
    return {"finish_reason": "error", "error": " ".join(str(error).split())}
