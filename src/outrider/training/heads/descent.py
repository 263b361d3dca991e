"""What a training is made of: gradients of batches, steps of AdamW, and what the student is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from outrider.training.heads.batch import Batch, Student
from outrider.training.heads.corpus import Lesson
from outrider.training.heads.objectives import OBJECTIVES, overlap


@dataclass(frozen=True, slots=True)
class DescentSettings:
    """How a student descends.

    Attributes:
        objective: a name of OBJECTIVES.
        depth: how many steps of a draft are trained.
        weight: of each further step, compared with the one before.
        rate: of learning, at its highest.
        decay: of weights.
    """

    objective: str = "kl"
    depth: int = 4
    weight: float = 0.8
    rate: float = 1e-3
    decay: float = 0.01


class Tally:
    """What a student is worth on some lessons, by depth of the draft.

    Args:
        depth: how many steps of a draft are told apart.
    """

    def __init__(self, depth: int) -> None:
        self._agreed, self._accepted, self._counts = [0.0] * depth, [0.0] * depth, [0] * depth

    def add(self, depth: int, agreed: float, accepted: float, count: int) -> None:
        """Count places at one depth: how many were the target's most probable token, and the sum of min(p, q)."""
        self._agreed[depth] += agreed
        self._accepted[depth] += accepted
        self._counts[depth] += count

    @property
    def agreement(self) -> tuple[float, ...]:
        """How often the student's most probable token is the target's."""
        return tuple(each / max(count, 1) for each, count in zip(self._agreed, self._counts, strict=True))

    @property
    def acceptance(self) -> tuple[float, ...]:
        """How often a drawn token is accepted."""
        return tuple(each / max(count, 1) for each, count in zip(self._accepted, self._counts, strict=True))


def expected_tokens(chances: Sequence[float]) -> float:
    """Accepted tokens of a chain, from the chance of each that those before it were accepted."""
    total, reached = 0.0, 1.0
    for chance in chances:
        reached *= chance
        total += reached
    return total


class Descent:
    """A student, and the optimizer that changes it.

    Attributes:
        student: that.
        optimizer: AdamW.
        depth: how many steps of a draft are trained.
    """

    def __init__(self, student: Student, settings: DescentSettings) -> None:
        self.student = student
        self.depth = settings.depth
        self._settings = settings
        parameters = student.module.parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=settings.decay, betas=(0.9, 0.95))
        self._device = next(student.module.parameters()).device

    @torch.enable_grad()
    def backward(self, lessons: Sequence[Lesson], share: float = 1.0) -> float | None:
        """Add the gradients of a batch; its loss, None where no place of it counts.

        Args:
            share: of the batch in the step that follows.
        """
        settings = self._settings
        objective = OBJECTIVES[settings.objective]
        loss = torch.zeros((), device=self._device)
        with self._mixed():
            for place, step in enumerate(self.student.steps(self._batch(lessons), settings.depth)):
                log_q = step.logits.float().log_softmax(dim=-1)
                loss = loss + settings.weight**place * objective(log_q, step).mean()
        if not loss.requires_grad:
            return None
        (loss * share).backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def step(self, share: float) -> None:
        """Go one step down.

        Args:
            share: of the highest rate.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self._settings.rate * share
        torch.nn.utils.clip_grad_norm_(self.student.module.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.inference_mode()
    def count(self, lessons: Sequence[Lesson], tally: Tally) -> None:
        """Add to a tally what the student is worth on a batch."""
        with self._mixed():
            for place, step in enumerate(self.student.steps(self._batch(lessons), self.depth)):
                log_q = step.logits.float().log_softmax(dim=-1)
                agreed = int((log_q.argmax(dim=-1) == step.best).sum())
                tally.add(place, agreed, float(overlap(log_q, step).sum()), len(step.best))

    def weights(self) -> dict[str, torch.Tensor]:
        """A copy of the student's."""
        return {name: tensor.clone() for name, tensor in self.student.module.state_dict().items()}

    def _batch(self, lessons: Sequence[Lesson]) -> Batch:
        return Batch.of(lessons, self._device)

    def _mixed(self) -> Any:
        """Products in bfloat16 where the processor has it, the rest in float32."""
        from outrider.runtimes.torch.linears import computes_bfloat16

        enabled = self._device.type != "cpu" or computes_bfloat16()
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=enabled)
