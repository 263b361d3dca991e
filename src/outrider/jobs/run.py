"""One engine, many jobs: prepare what there is room for, step, write what is finished.

Prompts are read, checked and tokenised as they are needed. So a long file costs neither time nor memory at the start.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain

from outrider.drafters.base import Drafter
from outrider.engine.engine import Engine
from outrider.engine.record import Observer
from outrider.errors import InputError, OutriderError, SettingError
from outrider.jobs.decoding import Decoding, EngineSettings
from outrider.jobs.jobs import Job, Jobs, Preparation
from outrider.jobs.progress import Progress
from outrider.jobs.results import Results
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy
from outrider.maths.rules import Rule, RuleName
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.base import Model

AHEAD = 4  # times the rows: prompts that are tokenised before the engine opens, which tell how long rows must be


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
    settings = EngineSettings(lookahead, rule, memory_limit)
    observers = [] if observer is None else [observer]
    preparation = Preparation(target, jobs.common)
    upcoming = _Upcoming(chain([first], left), preparation, AHEAD * max_rows)

    def engine(capacity: int) -> Engine:
        rows = min(max_rows, max(1, len(upcoming.requests))) if upcoming.ended else max_rows
        return settings.open(target, drafter, rows, capacity, [progress.count, *observers], clock)

    decoding = Decoding(upcoming, engine, results, progress, target.traits.context_length)
    if upcoming.failure is not None:
        raise upcoming.failure
    decoding.open_engine(upcoming.requests)
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
