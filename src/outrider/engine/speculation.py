"""Which drafter drafts for which text: the engine's own, and others that requests may name, each with its policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol, TypeVar

from outrider.drafters.base import Drafter
from outrider.engine.drafting import GuardedDrafter
from outrider.engine.sequence import ActiveSequence
from outrider.errors import SettingError, shown
from outrider.lookahead import CostCurve, DraftingTraits, Goodput, LookaheadPolicy
from outrider.lookahead.fixed import Fixed
from outrider.maths.lessons import Lessons
from outrider.maths.noise import MASK


class OfOneText(Protocol):
    """What belongs to one text."""

    @property
    def sequence(self) -> ActiveSequence: ...


T = TypeVar("T", bound=OfOneText)


@dataclass(slots=True)
class Speculation:
    """A drafter with the policy that plans its drafts.

    Each policy sees the texts of its own drafter alone, so that none is misled by what another's drafts bring.

    Attributes:
        given: the drafter; None decodes plainly.
        drafter: the same behind its guard: where it fails, its own texts are decoded plainly.
        seconds: how long it drafted in the present round; None where no other one did.
        lessons: of drafter and policy, where what one text teaches them changes the drafts of others.
    """

    given: Drafter | None
    drafter: GuardedDrafter
    lookahead: LookaheadPolicy
    seconds: float | None = None
    lessons: list[Lessons] = field(default_factory=list, init=False)

    @property
    def trees(self) -> bool:
        """Whether it may propose trees."""
        return self.given is not None and self.given.trees

    def __post_init__(self) -> None:
        if self.given is not None:
            learners: tuple[Drafter | LookaheadPolicy, ...] = (self.given, self.lookahead)
            self.lessons = [each.lessons for each in learners if each.learns]

    def taught(self, sequence: ActiveSequence) -> tuple[int, ...]:
        """What other texts of its seed taught; empty where that is nothing."""
        totals = [each.total(sequence.seed) for each in self.lessons]
        others = [(total - own) & MASK for total, own in zip_longest(totals, sequence.lessons, fillvalue=0)]
        return tuple(others) if any(others) else ()

    def learn(self, sequence: ActiveSequence) -> None:
        """A draft of this text was judged, from which drafter and policy may learn."""
        if not self.lessons or sequence.sampling.greedy or sequence.rule.shares_noise:
            return  # its drafts tell of no noise that another text's verdicts look at
        added = [each.add(sequence.seed) for each in self.lessons]
        sequence.lessons = tuple(
            [(before + lesson) & MASK for before, lesson in zip_longest(sequence.lessons, added, fillvalue=0)]
        )

    @property
    def present(self) -> bool:
        return self.drafter.present

    def bind(self, costs: CostCurve) -> None:
        """Tell the policy what drafts and what passes cost."""
        drafter = self.drafter.drafter
        if drafter is not None:
            self.lookahead.bind(DraftingTraits(self.trees, drafter.estimates), costs)


class Speculations:
    """All of an engine.

    Args:
        own: for texts that name no drafter.
        named: those that requests may name.
    """

    def __init__(self, own: Speculation, named: Mapping[str, Speculation]) -> None:
        self.own = own
        self._named = dict(named)
        self.all = [own, *self._named.values()]

    @property
    def names(self) -> Sequence[str]:
        """Of the drafters that requests may name."""
        return list(self._named)

    @property
    def failures(self) -> int:
        """How often a drafter failed."""
        return sum([each.drafter.failures for each in self.all])

    def named(self, name: str | None) -> Speculation:
        """The one of this name; the engine's own for None.

        Raises:
            SettingError: there is none.
        """
        if name is None:
            return self.own
        if name not in self._named:
            known = f"has {', '.join(self._named)}" if self._named else "has no drafters with names"
            raise SettingError(
                f"drafter {shown(name)} is not open: this engine {known}: name one of them, or leave it to the engine"
            )
        return self._named[name]

    def of(self, sequence: ActiveSequence) -> Speculation:
        """The one that drafts for this text."""
        return self.own if sequence.request.drafter is None else self._named[sequence.request.drafter]

    def shared_out(self, items: Sequence[T]) -> list[tuple[Speculation, list[T]]]:
        """What belongs to each of them; those with nothing are left out."""
        if not self._named:
            return [(self.own, list(items))] if items else []
        parts: dict[int, list[T]] = {}
        for item in items:
            parts.setdefault(id(self.of(item.sequence)), []).append(item)
        return [(each, parts[id(each)]) for each in self.all if id(each) in parts]

    def adopt(self, sequence: ActiveSequence, length: int) -> int:
        """As `Drafter.adopt`, of the one that drafts for the text."""
        return self.of(sequence).drafter.adopt(sequence, length)

    def try_again(self) -> None:
        """The engine is idle: drafters that failed may be tried again."""
        for each in self.all:
            each.drafter.try_again()

    def rest(self) -> bool:
        """No text is open: one short step of a drafter that has something to do; whether there is more."""
        return any(each.drafter.rest() for each in self.all)

    def forget(self, sequence: ActiveSequence) -> None:
        """The text has ended."""
        speculation = self.of(sequence)
        speculation.lookahead.forget(sequence.id)
        speculation.drafter.forget(sequence)


def speculations(
    own: Drafter | None, lookahead: LookaheadPolicy, named: Mapping[str, Drafter], vocab_size: int
) -> Speculations:
    """The engine's own drafter with its policy, and the others.

    A number of tokens holds for all drafters. Any other policy learns from one drafter: the others get Goodput.

    Raises:
        SettingError: a name is given to what is no drafter.
    """
    if not isinstance(named, Mapping):
        raise SettingError(f"drafters is {shown(named)}: give drafters by name, {{name: Drafter}}")
    for name, drafter in named.items():
        if not isinstance(drafter, Drafter):
            raise SettingError(f"drafters[{shown(name)}] is {shown(drafter)}: give a Drafter")
    return Speculations(
        Speculation(own, GuardedDrafter(own, vocab_size), lookahead),
        {
            name: Speculation(drafter, GuardedDrafter(drafter, vocab_size), _policy_beside(own, lookahead))
            for name, drafter in named.items()
        },
    )


def _policy_beside(own: Drafter | None, lookahead: LookaheadPolicy) -> LookaheadPolicy:
    if own is not None and isinstance(lookahead, Fixed):
        return Fixed(lookahead.lookahead)
    return Goodput()
