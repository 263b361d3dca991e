"""Trains a student: a draft head, or a small model."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from outrider.errors import InputError
from outrider.training.heads.batch import Student
from outrider.training.heads.checkpoint import CHECKPOINT, Checkpoint
from outrider.training.heads.corpus import Lesson, Lessons
from outrider.training.heads.descent import Descent, DescentSettings, Tally, expected_tokens
from outrider.training.shards import Text

BETWEEN_CHECKPOINTS = 45.0  # seconds, at most: a run that is killed loses at most so much
CHECKPOINTS = 20  # in short runs
WARM_UP = 10  # steps
LEAST_RATE = 0.02  # of the rate, at the end
PATIENCE = 4  # measurements without a gain, after which training ends


@dataclass(frozen=True, slots=True)
class TrainingSettings(DescentSettings):
    """How a student is trained.

    Attributes:
        tokens: of a batch, padding included.
        batches: whose gradients are added for one step.
        seconds: how long training may take, earlier runs included; the rate falls over them as a cosine.
        measured: seconds between two measurements.
        seed: of the order of the texts.
    """

    tokens: int = 2048
    batches: int = 1
    seconds: float = 600.0
    measured: float = 30.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a student is worth on texts that it is not trained on, by depth of the draft.

    Attributes:
        seconds: of training so far.
        loss: of training, since the measurement before.
        agreement: how often its most probable token is the target's.
        acceptance: sum of min(p, q), how often a drawn token is accepted.
    """

    seconds: float
    loss: float
    agreement: tuple[float, ...]
    acceptance: tuple[float, ...]

    @property
    def worth(self) -> float:
        """Expected accepted tokens of a greedy chain as deep as was trained."""
        return expected_tokens(self.agreement)


@dataclass
class Progress:
    """What a checkpoint keeps besides weights."""

    seconds: float = 0.0
    steps: int = 0
    epochs: int = 0
    curve: list[Measurement] = field(default_factory=list)


class Trainer:
    """One student on its way.

    Args:
        held_out: texts that measure.
        folder: of the checkpoint, which is written there; None writes none.
        made: what the student is made of, for the checkpoint.
        further: asked at the beginning of each epoch for texts that came meanwhile.
        clock: seconds.
    """

    def __init__(
        self,
        student: Student,
        lessons: Lessons,
        held_out: Lessons,
        settings: TrainingSettings,
        folder: Path | None = None,
        *,
        made: Mapping[str, Any] | None = None,
        further: Callable[[], Sequence[Text]] = lambda: (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.student = student
        self.settings = settings
        self.progress = Progress()
        self._lessons, self._held_out = lessons, held_out
        self._file = None if folder is None else folder / CHECKPOINT
        self._made = dict(made or {})
        self._further = further
        self._clock = clock
        self._descent = Descent(student, settings)
        self._best, self._best_worth = self._descent.weights(), -math.inf
        self._since_best = 0  # measurements of this run
        self._begun = 0.0  # seconds of earlier runs
        self._losses: list[float] = []

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        What was best before is measured once more: the texts held out may be others by now.

        Raises:
            InputError: it is of another student.
        """
        module = self.student.module
        try:
            module.load_state_dict(checkpoint.best)
            self._best = self._descent.weights()
            curve = [Measurement(**each) for each in checkpoint.progress["curve"]]
            self.progress = Progress(**{**checkpoint.progress, "curve": curve})
            self._best_worth = self._measured().worth
            module.load_state_dict(checkpoint.weights)
            self._descent.optimizer.load_state_dict(dict(checkpoint.optimizer))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"checkpoint {self._file} is of another student: delete it") from error
        self._begun = self.progress.seconds

    def run(self, tell: Callable[[Progress], None] = lambda progress: None) -> list[Measurement]:
        """Train until the time is over, or nothing is gained any more; the best weights stay in the student.

        Args:
            tell: called after each step.

        Returns:
            The curve.

        Raises:
            KeyboardInterrupt: somebody interrupted it; what was learned is in the checkpoint.
        """
        try:
            self._train(tell)
        finally:
            self._save()
        self.student.module.load_state_dict(self._best)
        return self.progress.curve

    def _train(self, tell: Callable[[Progress], None]) -> None:
        settings, progress = self.settings, self.progress
        started = saved = self._clock()
        self._measure()
        while not self._is_over():
            self._lessons.add(self._further())
            chooser = random.Random(f"{settings.seed} {progress.steps}")
            pending = 0
            for lessons in self._lessons.batches(settings.tokens, chooser):
                self._learn(lessons)
                pending += 1
                if pending == settings.batches:
                    self._step()
                    pending = 0
                now = self._clock()
                progress.seconds = self._begun + now - started
                tell(progress)
                if progress.seconds - progress.curve[-1].seconds >= settings.measured:
                    self._measure()
                if now - saved >= min(BETWEEN_CHECKPOINTS, settings.seconds / CHECKPOINTS):
                    self._save()
                    saved = self._clock()
                if self._is_over():
                    break
            if pending:
                self._step()
            progress.epochs += 1
        if progress.steps and progress.seconds > progress.curve[-1].seconds:
            self._measure()

    def measure(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Agreement and acceptance on the texts held out, by depth."""
        tally = Tally(self.settings.depth)
        for lessons in self._held_out.batches(self.settings.tokens, None):
            self._descent.count(lessons, tally)
        return tally.agreement, tally.acceptance

    def _learn(self, lessons: Sequence[Lesson]) -> None:
        loss = self._descent.backward(lessons, 1 / self.settings.batches)
        if loss is not None:
            self._losses.append(loss)

    def _step(self) -> None:
        progress, settings = self.progress, self.settings
        over = min(progress.seconds / settings.seconds, 1.0)
        rate = LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * over))
        self._descent.step(rate * min(1.0, (progress.steps + 1) / WARM_UP))
        progress.steps += 1

    def _measure(self) -> None:
        measured = self._measured()
        self._since_best += 1
        if measured.worth > self._best_worth:
            self._best, self._best_worth, self._since_best = self._descent.weights(), measured.worth, 0
        self.progress.curve.append(measured)

    def _measured(self) -> Measurement:
        agreement, acceptance = self.measure()
        loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses.clear()
        return Measurement(self.progress.seconds, loss, agreement, acceptance)

    def _is_over(self) -> bool:
        """Whether the time is over, or the second half of this run's time brings nothing any more."""
        passed, seconds = self.progress.seconds, self.settings.seconds
        return passed >= seconds or (self._since_best >= PATIENCE and passed > (self._begun + seconds) / 2)

    def _save(self) -> None:
        if self._file is not None:
            module, progress = self.student.module, asdict(self.progress)
            state = self._descent.optimizer.state_dict()
            Checkpoint(module.state_dict(), self._best, state, progress, self._made).write(self._file)
