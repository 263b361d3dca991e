"""Lessons side by side, and what a student says of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from outrider.training.heads.corpus import Lesson


@dataclass(frozen=True, slots=True)
class Batch:
    """Lessons side by side, padded at the end.

    Attributes:
        tokens: int64 [texts, width].
        lengths: of the texts.
        hidden: [texts, width, states of all layers].
        counts: bool [texts, width], the positions whose expectations count: those of the answer, but for the last
            token, after which nothing comes.
        likely, chances, best: as in `Lesson`, [texts, width, ..].
    """

    tokens: torch.Tensor
    hidden: torch.Tensor
    counts: torch.Tensor
    likely: torch.Tensor
    chances: torch.Tensor
    best: torch.Tensor

    @classmethod
    def of(cls, lessons: Sequence[Lesson], device: torch.device) -> Batch:
        width = max(len(lesson.tokens) for lesson in lessons)
        expected = lessons[0].likely.shape[1]

        def padded(pieces: Sequence[torch.Tensor], shifted: bool) -> torch.Tensor:
            whole = pieces[0].new_zeros((len(lessons), width, *pieces[0].shape[1:]))
            for row, (lesson, piece) in enumerate(zip(lessons, pieces, strict=True)):
                start = lesson.first if shifted else 0
                whole[row, start : start + len(piece)] = piece
            return whole.to(device)

        counts = [torch.ones(max(len(lesson.best) - 1, 0), dtype=torch.bool) for lesson in lessons]
        assert all(lesson.likely.shape[1] == expected for lesson in lessons)
        return cls(
            padded([lesson.tokens for lesson in lessons], False),
            padded([lesson.hidden for lesson in lessons], False),
            padded(counts, True),
            padded([lesson.likely for lesson in lessons], True),
            padded([lesson.chances for lesson in lessons], True),
            padded([lesson.best for lesson in lessons], True),
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What the student says at one depth of a draft, and what the target expected there; n places count.

    Attributes:
        logits: [n, draft vocabulary].
        likely, chances, best: as in `Lesson`, [n, ..].
    """

    logits: torch.Tensor
    likely: torch.Tensor
    chances: torch.Tensor
    best: torch.Tensor


class Student(Protocol):
    """What is trained: a head, or a small model."""

    @property
    def module(self) -> torch.nn.Module:
        """Its weights."""
        ...

    def steps(self, batch: Batch, depth: int) -> Iterator[Step]:
        """What it says of a batch, for one draft token after the other."""
        ...
