"""What drafters that consist of several have in common."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.loading import as_member
from outrider.errors import SettingError
from outrider.maths.noise import MOST_DRAFTERS, RoundNoise
from outrider.maths.sampling import History, SamplingParams
from outrider.runtimes.base import Features, Top

T = TypeVar("T")
logger = logging.getLogger("outrider")


class Several(Drafter):
    """Several drafters that work together. One that fails is dropped with a warning; the others go on.

    A model, in any form that `as_model` takes, stands for a ModelDrafter of it.

    Attributes:
        drafters: None where one was dropped.

    Raises:
        SettingError: no drafter, or too many.
    """

    def __init__(self, drafters: Sequence[Any], name: str | None) -> None:
        if not isinstance(drafters, list | tuple):
            raise SettingError(f"drafters is a {type(drafters).__name__}: give a list of drafters")
        if not 1 <= len(drafters) <= MOST_DRAFTERS:
            raise SettingError(f"{len(drafters)} drafters are given: it must be 1 to {MOST_DRAFTERS}")
        members = [as_member(drafter) for drafter in drafters]
        self.drafters: list[Drafter | None] = list(members)
        self.name = "+".join(member.name for member in members) if name is None else name
        self.wants = union_of([member.wants for member in members])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({[drafter for drafter in self.drafters if drafter is not None]})"

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return sum(drafter.bytes_per_token for drafter in self.drafters if drafter is not None)

    @property
    def present(self) -> list[int]:
        """The numbers of the drafters that were not dropped."""
        return [number for number, drafter in enumerate(self.drafters) if drafter is not None]

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        for number in self.present:
            self.call(number, lambda drafter: drafter.prepare(rows, capacity, vocab_size))

    def adopt(self, sequence: DraftedSequence, length: int) -> int:
        adopted = [self.call(number, lambda drafter: drafter.adopt(sequence, length)) for number in self.present]
        return min([length, *(least for least in adopted if least is not None)])

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for number in self.present:
            self.call(number, lambda drafter: drafter.read(sequences, told_to(drafter.wants, self.wants, readings)))

    def forget(self, sequence: DraftedSequence) -> None:
        for number in self.present:
            self.call(number, lambda drafter: drafter.forget(sequence))

    def rest(self) -> bool:
        return any(self.call(number, lambda drafter: drafter.rest()) for number in self.present)

    def call(self, number: int, call: Callable[[Drafter], T]) -> T | None:
        """Call a drafter that is present; None where it fails. If none is left then, the failure is raised."""
        drafter = self.drafters[number]
        assert drafter is not None
        try:
            return call(drafter)
        except Exception as error:
            if len(self.present) == 1:
                raise
            self.drafters[number] = None
            message = f"drafter {drafter.name} failed and is dropped; the others go on: {error!r}"
            logger.warning(message, exc_info=error)
            warnings.warn(message, RuntimeWarning, stacklevel=3)
            return None


@dataclass(frozen=True, slots=True)
class Seen:
    """A sequence as one of several drafters sees it: with draws of its own."""

    id: int
    tokens: Sequence[int]
    predicted: Sequence[int]
    sampling: SamplingParams
    history: History
    noise: RoundNoise
    isolation: Hashable | None


def seen(sequence: DraftedSequence, noise: RoundNoise) -> Seen:
    return Seen(
        sequence.id,
        sequence.tokens,
        sequence.predicted,
        sequence.sampling,
        sequence.history,
        noise,
        sequence.isolation,
    )


def union_of(wants: Sequence[Features]) -> Features:
    """What a pass has to tell for all of these."""
    if len(wants) == 1:
        return wants[0]
    return Features(tuple(sorted({layer for each in wants for layer in each.hidden})), max(each.top for each in wants))


def told_to(wanted: Features, given: Features, readings: Sequence[Reading]) -> Sequence[Reading]:
    """Readings, which have the features `given`, as one drafter wants them; what it does not want may be there too."""
    served = wanted.hidden in ((), given.hidden) and wanted.top in (0, given.top)
    return readings if served else [_part_of(reading, given, wanted) for reading in readings]


def _part_of(reading: Reading, given: Features, wanted: Features) -> Reading:
    hidden = tuple(reading.hidden[given.hidden.index(layer)] for layer in wanted.hidden)
    top = None
    if reading.top is not None and wanted.top:
        top = Top(reading.top.tokens[:, : wanted.top], reading.top.probabilities[:, : wanted.top])
    return replace(reading, hidden=hidden, top=top)
