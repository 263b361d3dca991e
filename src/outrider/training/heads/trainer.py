"""Trains a draft head."""

from __future__ import annotations

import io
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from outrider.drafters.heads.module import Eagle3
from outrider.errors import InputError
from outrider.runtimes.whole_file import whole_file
from outrider.training.heads.corpus import Lesson, Lessons
from outrider.training.heads.objectives import OBJECTIVES, overlap
from outrider.training.heads.rollout import Batch, rollout

CHECKPOINT = "checkpoint.pt"
BETWEEN_CHECKPOINTS = 45.0  # seconds: a run that is killed loses at most so much
WARM_UP = 10  # steps
LEAST_RATE = 0.02  # of the rate, at the end
PATIENCE = 4  # measurements without a gain, after which training ends


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """How a head is trained.

    Attributes:
        objective: a name of OBJECTIVES.
        depth: how many steps of a draft are trained.
        weight: of each further step, compared with the one before.
        rate: of learning, at its highest.
        decay: of weights.
        tokens: of a batch, padding included.
        batches: whose gradients are added for one step.
        seconds: how long training may take; the rate falls over them as a cosine.
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
    """What a head is worth on texts that it is not trained on, by depth of the draft.

    Attributes:
        seconds: of training so far.
        loss: of training, since the measurement before.
        agreement: how often the head's most probable token is the target's.
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
    """One head on its way.

    Args:
        embedding: of the tokens, [vocabulary, hidden size].
        held_out: texts that measure.
        folder: of the checkpoint; a run that was killed goes on from it.
        clock: seconds.

    Raises:
        InputError: the checkpoint is of another head.
    """

    def __init__(
        self,
        head: Eagle3,
        embedding: torch.Tensor,
        lessons: Lessons,
        held_out: Lessons,
        settings: TrainingSettings,
        folder: Path | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.head = head
        self.settings = settings
        self.progress = Progress()
        self._embedding = embedding
        self._lessons, self._held_out = lessons, held_out
        self._file = None if folder is None else folder / CHECKPOINT
        self._clock = clock
        self._optimizer = torch.optim.AdamW(
            head.parameters(), lr=settings.rate, weight_decay=settings.decay, betas=(0.9, 0.95)
        )
        self._best = {name: tensor.clone() for name, tensor in head.state_dict().items()}
        self._losses: list[float] = []
        self._device = next(head.parameters()).device
        if self._file is not None and self._file.is_file():
            self._resume(self._file)

    def run(self, tell: Callable[[Progress], None] = lambda progress: None) -> list[Measurement]:
        """Train until the time is over, or nothing is gained any more; the best weights stay in the head.

        Args:
            tell: called after each step.

        Returns:
            The curve.
        """
        settings, progress = self.settings, self.progress
        started = saved = self._clock()
        before = progress.seconds
        if not progress.curve:
            self._measure()
        while progress.seconds < settings.seconds and not self._is_stale():
            chooser = random.Random(settings.seed + progress.epochs)
            pending = 0
            for lessons in self._lessons.batches(settings.tokens, chooser):
                self._backward(lessons)
                pending += 1
                if pending == settings.batches:
                    self._step()
                    pending = 0
                now = self._clock()
                progress.seconds = before + now - started
                tell(progress)
                if progress.seconds - progress.curve[-1].seconds >= settings.measured:
                    self._measure()
                if now - saved >= BETWEEN_CHECKPOINTS:
                    self._save()
                    saved = self._clock()
                if progress.seconds >= settings.seconds or self._is_stale():
                    break
            if pending:
                self._step()
            progress.epochs += 1
        self._measure()
        self._save()
        self.head.load_state_dict(self._best)
        return progress.curve

    @torch.inference_mode()
    def measure(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Agreement and acceptance on the texts held out, by depth."""
        depth = self.settings.depth
        agreed, accepted, counts = [0.0] * depth, [0.0] * depth, [0] * depth
        for lessons in self._held_out.batches(self.settings.tokens, None):
            with self._mixed():
                for place, step in enumerate(rollout(self.head, self._embedding, self._batch(lessons), depth)):
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
            for place, step in enumerate(rollout(self.head, self._embedding, self._batch(lessons), settings.depth)):
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
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        progress.steps += 1

    def _measure(self) -> None:
        agreement, acceptance = self.measure()
        loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        self._losses.clear()
        measured = Measurement(self.progress.seconds, loss, agreement, acceptance)
        if all(measured.worth > other.worth for other in self.progress.curve):
            self._best = {name: tensor.clone() for name, tensor in self.head.state_dict().items()}
        self.progress.curve.append(measured)

    def _is_stale(self) -> bool:
        worths = [measured.worth for measured in self.progress.curve]
        best = max(range(len(worths)), key=worths.__getitem__)
        return len(worths) - 1 - best >= PATIENCE and self.progress.seconds > 0.5 * self.settings.seconds

    def _save(self) -> None:
        if self._file is None:
            return
        held = io.BytesIO()
        torch.save(
            {
                "head": self.head.state_dict(),
                "best": self._best,
                "optimizer": self._optimizer.state_dict(),
                "progress": asdict(self.progress),
            },
            held,
        )
        with whole_file(self._file) as file:
            file.write(held.getvalue())

    def _resume(self, file: Path) -> None:
        try:
            found = torch.load(file, map_location=self._device, weights_only=True)
            self.head.load_state_dict(found["head"])
            self._optimizer.load_state_dict(found["optimizer"])
            self._best = found["best"]
            curve = [Measurement(**each) for each in found["progress"].pop("curve")]
            self.progress = Progress(**found["progress"], curve=curve)
        except Exception as error:  # whatever a damaged file makes pickle say, or a head of other sizes PyTorch
            raise InputError(f"checkpoint {file} is damaged or of another head: delete it") from error
