"""A run over several workers: each is handed jobs as it has room, and a lost one costs its texts in progress alone.

This side reads the prompts and writes the results. Workers hold models and decode (`replica.py`); a `Pool` starts and
calls them (`ray_pool.py`).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from outrider.errors import ModelError, OutriderError
from outrider.jobs.jobs import Job, Jobs
from outrider.jobs.progress import Progress
from outrider.jobs.replica import Report
from outrider.jobs.results import Results

SUSPICIOUS = 2  # lost workers: a prompt that was in progress at so many is decoded alone
LOSSES = 5  # at more than so many, its result is an error; workers that never reported anything end the run


class Pool(Protocol):
    """Workers in processes of their own. `decode` is called for one again when its last report was taken."""

    def start(self) -> int:
        """Start a worker; returns its number, which no other one has."""

    def decode(self, worker: int, jobs: Sequence[Job]) -> None:
        """Hand it jobs, and have it decode for a turn."""

    def wait(self) -> tuple[int, Report | None]:
        """The first worker whose turn is over, and its report; None where it is lost.

        Raises:
            OutriderError: a worker cannot open its models.
        """


def run_on_workers(
    jobs: Jobs,
    results: Results,
    open_pool: Callable[[], Pool],
    *,
    workers: int,
    rows: int,
    report: Callable[[Progress], None] = lambda progress: None,
    clock: Callable[[], float] = time.perf_counter,
) -> Progress:
    """As `run`, over several workers.

    Each result is that of its job alone, whichever worker decodes it and however often it was begun. So all that `run`
    says of results holds here.

    Args:
        open_pool: called if there is something left to decode.
        rows: how many texts a worker decodes at once.

    Raises:
        InputError: a prompt cannot be used, or `results` holds something else, or cannot be written.
        ModelError: workers are lost again and again while they open their models.
        OutriderError: as a worker, while it opens its models.
    """
    known = results.recover(jobs)
    progress = Progress(len(jobs), len(known), failed=sum(not fine for fine in known.values()))
    left = (job for job in jobs if job.key not in known)
    first = next(left, None)
    if first is None:
        results.start()
        report(progress)
        return progress
    wanted = min(workers, progress.total - progress.done)
    spread = _Spread(open_pool(), results, progress, _Queue(first, left), wanted, rows)
    for _ in range(wanted):
        spread.start()
    started = None
    while spread.turn():
        started = clock() if started is None else started  # once the first worker has reported
        progress.seconds = clock() - started
        report(progress)
    if spread.queue.failure is not None:
        raise spread.queue.failure
    return progress


class _Queue:
    """Jobs that nobody decodes now. Those that came back from a lost worker come after fresh ones.

    Attributes:
        failure: why there are no more, where that is not their end.
    """

    def __init__(self, first: Job, left: Iterator[Job]) -> None:
        self._left: Iterator[Job] = chain([first], left)
        self._returned: deque[Job] = deque()
        self._suspects: deque[Job] = deque()
        self.failure: OutriderError | None = None

    def take(self, room: int) -> list[Job]:
        """At most so many jobs."""
        found: list[Job] = []
        while len(found) < room and (job := self._next()) is not None:
            found.append(job)
        return found

    def suspect(self) -> list[Job]:
        """One job that is to be decoded alone, if there is one and nothing else is left."""
        return [self._suspects.popleft()] if self._suspects else []

    def give_back(self, job: Job, alone: bool) -> None:
        (self._suspects if alone else self._returned).append(job)

    def end(self, failure: OutriderError) -> None:
        """No more jobs are begun."""
        self.failure = self.failure or failure
        self._left = iter(())
        self._returned.clear()
        self._suspects.clear()

    def _next(self) -> Job | None:
        try:
            job = next(self._left, None)
        except OutriderError as error:
            job, self.failure, self._left = None, error, iter(())
        if job is None and self._returned:
            return self._returned.popleft()
        return job


@dataclass
class _Spread:
    """Who decodes what.

    Attributes:
        held: jobs in progress by worker and key.
        reported: workers that have opened their models.
        alone: workers that decode a single suspicious job.
    """

    pool: Pool
    results: Results
    progress: Progress
    queue: _Queue
    workers: int
    rows: int
    held: dict[int, dict[str, Job]] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    reported: set[int] = field(default_factory=set)
    alone: set[int] = field(default_factory=set)
    losses: Counter[str] = field(default_factory=Counter)
    unopened: int = 0  # in a row

    def start(self) -> None:
        worker = self.pool.start()
        self.held[worker] = {}
        self._hand(worker)

    def turn(self) -> bool:
        """Wait for one worker, and hand out what there is room for; False where nothing is in progress."""
        if len(self.idle) == len(self.held):
            return False
        worker, report = self.pool.wait()
        if report is None:
            self._lose(worker)
        else:
            self._take(worker, report)
        for waiting in sorted(self.idle):
            self._hand(waiting)
        return True

    def _take(self, worker: int, report: Report) -> None:
        if not self.reported:
            self.results.start()  # nothing is refused any more
        if worker not in self.reported:
            self.reported.add(worker)
            self.unopened = 0
        for key in (*report.keys, *report.refused):
            del self.held[worker][key]
        if not self.held[worker]:
            self.alone.discard(worker)
        self.progress.add(report.progress)
        if report.failure is not None:
            self.queue.end(report.failure)
        self._hand(worker)  # before the disk is waited for
        for id, fingerprint, result in report.results:
            self.results.write(id, fingerprint, result)

    def _hand(self, worker: int) -> None:
        """As many jobs as there is room for, and no more than an equal share of what is left."""
        held = self.held[worker]
        open_jobs = self.progress.total - self.progress.done
        room = 0 if worker in self.alone else min(self.rows, -(-open_jobs // self.workers)) - len(held)
        jobs = self.queue.take(room)
        if not held and not jobs:
            jobs = self.queue.suspect()
            self.alone |= {worker} if jobs else set()
        held.update((job.key, job) for job in jobs)
        if held:
            self.idle.discard(worker)
            self.pool.decode(worker, jobs)
        else:
            self.idle.add(worker)

    def _lose(self, worker: int) -> None:
        """Its texts in progress go to others, a new worker comes in its place if there is enough left."""
        jobs = self.held.pop(worker).values()
        self.alone.discard(worker)
        opened = worker in self.reported
        self.unopened = 0 if opened else self.unopened + 1
        if self.unopened > LOSSES:
            raise ModelError(
                f"{self.unopened} workers in a row were lost before their first text: give fewer --workers, or fewer "
                "--max-rows, if memory is short; the logs of Ray say more"
            )
        for job in jobs:
            self.losses[job.key] += opened
            if self.losses[job.key] > LOSSES:
                self._give_up(job)
            else:
                self.queue.give_back(job, alone=self.losses[job.key] >= SUSPICIOUS)
        if self.progress.total - self.progress.done > len(self.held):
            self.start()

    def _give_up(self, job: Job) -> None:
        message = f"each of the {self.losses[job.key]} workers that decoded this prompt was lost"
        self.results.write(job.id, job.fingerprint, {"finish_reason": "error", "error": message})
        self.progress.finished += 1
        self.progress.failed += 1
