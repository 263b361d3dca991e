"""Trains a student: a draft head, or a small model."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from outrider.errors import InputError
from outrider.training.heads.batch import Batch, Student
from outrider.training.heads.checkpoint import CHECKPOINT, Checkpoint
from outrider.training.heads.corpus import Lesson, Lessons
from outrider.training.heads.objectives import OBJECTIVES, overlap
from outrider.training.shards import Text

BETWEEN_CHECKPOINTS = 45.0  # seconds, at most: a run that is killed loses at most so much
CHECKPOINTS = 20  # in short runs
WARM_UP = 10  # steps
LEAST_RATE = 0.02  # of the rate, at the end
PATIENCE = 4  # measurements without a gain, after which training ends


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a student is trained.

    Attributes:
        objective: a name of OBJECTIVES.
        depth: how many steps of a draft are trained.
        weight: of each further step, compared with the one before.
        rate: of learning, at its highest.
        decay: of weights.
        tokens: of a batch, padding included.
        batches: whose gradients are added for one step.
        seconds: how long training may take, earlier runs included; the rate falls over them as a cosine.
        measured: seconds between two measurements.
        seed: of the order of the texts.
    """

    objective: str = "kl"
    depth: int = 4
    weight: float = 0.8
    rate: float = 1e-3
    decay: float = 0.01
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
        total, reached = 0.0, 1.0
        for chance in self.agreement:
            reached *= chance
            total += reached
        return total


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
        parameters = student.module.parameters()
        self._optimizer = torch.optim.AdamW(
            parameters, lr=settings.rate, weight_decay=settings.decay, betas=(0.9, 0.95)
        )
        self._best, self._best_worth = self._weights(), -math.inf
        self._since_best = 0  # measurements of this run
        self._begun = 0.0  # seconds of earlier runs
        self._losses: list[float] = []
        self._device = next(student.module.parameters()).device

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        What was best before is measured once more: the texts held out may be others by now.

        Raises:
            InputError: it is of another student.
        """
        module = self.student.module
        try:
            module.load_state_dict(checkpoint.best)
            self._best = self._weights()
            curve = [Measurement(**each) for each in checkpoint.progress["curve"]]
            self.progress = Progress(**{**checkpoint.progress, "curve": curve})
            self._best_worth = self._measured().worth
            module.load_state_dict(checkpoint.weights)
            self._optimizer.load_state_dict(dict(checkpoint.optimizer))
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
                self._backward(lessons)
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

    @torch.inference_mode()
    def measure(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Agreement and acceptance on the texts held out, by depth."""
        depth = self.settings.depth
        agreed, accepted, counts = [0.0] * depth, [0.0] * depth, [0] * depth
        for lessons in self._held_out.batches(self.settings.tokens, None):
            with self._mixed():
                for place, step in enumerate(self.student.steps(self._batch(lessons), depth)):
                    log_q = step.logits.float().log_softmax(dim=-1)
                    agreed[place] += int((log_q.argmax(dim=-1) == step.best).sum())
                    accepted[place] += float(overlap(log_q, step).sum())
                    counts[place] += len(step.best)
        return (
            tuple(each / max(count, 1) for each, count in zip(agreed, counts, strict=True)),
            tuple(each / max(count, 1) for each, count in zip(accepted, counts, strict=True)),
        )

    def _batch(self, lessons: Sequence[Lesson]) -> Batch:
        return Batch.of(lessons, self._device)

    def _mixed(self) -> Any:
        """Products in bfloat16 where the processor has it, the rest in float32."""
        from outrider.runtimes.torch.linears import computes_bfloat16

        enabled = self._device.type != "cpu" or computes_bfloat16()
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=enabled)

    @torch.enable_grad()
    def _backward(self, lessons: Sequence[Lesson]) -> None:
        settings = self.settings
        objective = OBJECTIVES[settings.objective]
        loss = torch.zeros((), device=self._device)
        with self._mixed():
            for place, step in enumerate(self.student.steps(self._batch(lessons), settings.depth)):
                log_q = step.logits.float().log_softmax(dim=-1)
                loss = loss + settings.weight**place * objective(log_q, step).mean()
        if loss.requires_grad:
            (loss / settings.batches).backward()  # type: ignore[no-untyped-call]
            self._losses.append(float(loss.detach()))

    def _step(self) -> None:
        progress, settings = self.progress, self.settings
        over = min(progress.seconds / settings.seconds, 1.0)
        rate = LEAST_RATE + (1 - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * over))
        for group in self._optimizer.param_groups:
            group["lr"] = settings.rate * rate * min(1.0, (progress.steps + 1) / WARM_UP)
        torch.nn.utils.clip_grad_norm_(self.student.module.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        progress.steps += 1

    def _measure(self) -> None:
        measured = self._measured()
        self._since_best += 1
        if measured.worth > self._best_worth:
            self._best, self._best_worth, self._since_best = self._weights(), measured.worth, 0
        self.progress.curve.append(measured)

    def _measured(self) -> Measurement:
        agreement, acceptance = self.measure()
        loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses.clear()
        return Measurement(self.progress.seconds, loss, agreement, acceptance)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.student.module.state_dict().items()}

    def _is_over(self) -> bool:
        """Whether the time is over, or the second half of this run's time brings nothing any more."""
        passed, seconds = self.progress.seconds, self.settings.seconds
        return passed >= seconds or (self._since_best >= PATIENCE and passed > (self._begun + seconds) / 2)

    def _save(self) -> None:
        if self._file is not None:
            module, progress = self.student.module, asdict(self.progress)
            state = self._optimizer.state_dict()
            Checkpoint(module.state_dict(), self._best, state, progress, self._made).write(self._file)
