"""A worker's side of a run over many processes: one engine that decodes the jobs it is handed, turn by turn."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.base import Drafter
from outrider.engine.engine import Engine
from outrider.errors import InputError, OutriderError
from outrider.jobs.decoding import Decoding, EngineSettings
from outrider.jobs.jobs import Common, Job, Preparation
from outrider.jobs.progress import Progress
from outrider.prompts.files import Id, key_of
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.base import Model

TURN = 0.5  # seconds until a worker reports, also where nothing is finished


@dataclass(slots=True)
class Report:
    """What a turn brought.

    Attributes:
        results: id, fingerprint and result of each text that is finished.
        progress: counts of this turn.
        failure: why a job cannot be decoded at all, and with it the run.
        refused: the keys of that job and of those behind it.
    """

    results: list[tuple[Id, str, Mapping[str, Any]]] = field(default_factory=list)
    progress: Progress = field(default_factory=lambda: Progress(0, 0))
    failure: OutriderError | None = None
    refused: list[str] = field(default_factory=list)

    def write(self, id: Id, fingerprint: str, result: Mapping[str, Any]) -> None:
        self.results.append((id, fingerprint, result))

    @property
    def keys(self) -> list[str]:
        """The ids, as they tell jobs apart."""
        return [key_of(id) for id, _, _ in self.results]


class Replica:
    """Target, drafter and engine of one worker.

    Args:
        open_models: target and drafter.
        rows: how many texts it decodes at once.

    Raises:
        OutriderError: as `open_models`.
    """

    def __init__(
        self,
        open_models: Callable[[], tuple[Model, Drafter | None]],
        common: Common,
        settings: EngineSettings,
        rows: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._target, self._drafter = open_models()
        self._settings, self._rows, self._clock = settings, rows, clock
        self._handed = _Handed(Preparation(self._target, common))
        self._report = Report()
        self._decoding = Decoding(
            self._handed, self._engine, self._report, self._report.progress, self._target.traits.context_length
        )

    def decode(self, jobs: Sequence[Job]) -> Report:
        """Take jobs, and decode until a text is finished, or for a while.

        Args:
            jobs: no more than there is room for beside those in progress.

        Raises:
            OutriderError: the engine cannot be opened.
        """
        self._report = self._decoding.results = report = Report()
        self._decoding.progress = report.progress
        self._handed.add(jobs, report)
        if self._decoding.engine is None:
            self._decoding.open_engine(self._handed.requests)
        until = self._clock() + TURN
        while self._decoding.step() and not report.results and self._clock() < until:
            pass
        return report

    def _engine(self, capacity: int) -> Engine:
        return self._settings.open(
            self._target,
            self._drafter,
            self._rows,
            capacity,
            [lambda record: self._report.progress.count(record)],
            self._clock,
        )


class _Handed:
    """The jobs that a worker was handed and has not begun."""

    def __init__(self, preparation: Preparation) -> None:
        self._preparation = preparation
        self._made: deque[tuple[Job, PreparedRequest | InputError]] = deque()

    def add(self, jobs: Sequence[Job], report: Report) -> None:
        """Where one of them cannot be taken, those behind it are not either."""
        for place, job in enumerate(jobs):
            try:
                self._made.append((job, self._preparation.request(job)))
            except OutriderError as error:
                report.failure, report.refused = error, [refused.key for refused in jobs[place:]]
                return

    @property
    def requests(self) -> list[PreparedRequest]:
        return [request for _, request in self._made if isinstance(request, PreparedRequest)]

    @property
    def next(self) -> tuple[Job, PreparedRequest | InputError] | None:
        return self._made[0] if self._made else None

    def take(self) -> None:
        self._made.popleft()
