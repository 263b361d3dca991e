"""Systems by name: `plain`, or a kind of drafter; `suffix@4` drafts 4 tokens in every round."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

import typer

from outrider.api.decoder import SpeculativeDecoder
from outrider.bench.systems import System, outrider_system
from outrider.cli.options.drafters import DRAFTERS, NONE, drafter_named, drafter_with
from outrider.cli.options.drafting import ChosenLookaheadOption, RuleOption, check_lookahead
from outrider.cli.options.models import ModelOptions
from outrider.drafters.base import Drafter
from outrider.errors import SettingError
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Model

PLAIN = "plain"
DRAFTING = tuple(name for name in DRAFTERS if name != NONE)


@dataclass(frozen=True, slots=True)
class Named:
    """A system by its name.

    Attributes:
        name: kind and lookahead together, as given.
        lookahead: after the @; None where there is none.
    """

    name: str
    kind: str
    lookahead: int | None


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """Which systems, and what they have in common."""

    systems: Annotated[
        str,
        typer.Option(
            "--systems",
            help=f"What to measure, of {', '.join((PLAIN, *DRAFTING))}; the first is the baseline. suffix@4 drafts 4 "
            "tokens in every round, suffix alone as many as promise most tokens per second.",
        ),
    ] = "plain,suffix"
    num_draft_tokens: ChosenLookaheadOption = None
    rule: RuleOption = "token"
    temp: Annotated[float, typer.Option("--temp", "--temperature", help="0 is greedy.")] = 0.0
    seed: Annotated[int, typer.Option("--seed")] = 0

    def named(self, models: ModelOptions, others: Collection[str] = (), counted: Collection[str] = ()) -> list[Named]:
        """The systems.

        Args:
            others: systems that are not Outrider.
            counted: those of them that take a number after an @.

        Raises:
            SettingError: a name is unknown, or a drafter lacks its model.
        """
        found = [_parse(name.strip()) for name in self.systems.split(",") if name.strip()]
        known = (PLAIN, *DRAFTING, *others)
        numbered = (*DRAFTING, *counted)
        if not found or not all(each.kind in (known if each.lookahead is None else numbered) for each in found):
            raise SettingError(
                f"--systems is {self.systems!r}: choose from {', '.join(known)}, with a number like @4 after one of "
                f"{', '.join(numbered)}"
            )
        for each in found:
            if each.kind in DRAFTERS and drafter_named(each.kind).needs_model and models.draft_model is None:
                raise SettingError(f"--systems has {each.name} and there is no --draft-model: give one")
        return found

    def sampling(self) -> SamplingParams:
        """The settings of every answer.

        Raises:
            SettingError: one of them is out of its range.
        """
        return SamplingParams(temperature=self.temp, seed=self.seed)

    def open_drafter(self, named: Named, models: ModelOptions, target: Model) -> tuple[Drafter | None, int | None]:
        """Drafter and lookahead of a system; a lookahead of None is chosen by measured goodput."""
        kind = drafter_with(NONE if named.kind == PLAIN else named.kind, models.draft_model)
        drafter = kind.open(models.open_draft, target)
        if drafter is None:
            return None, 0
        check_lookahead(kind, self.num_draft_tokens)
        return drafter, self.num_draft_tokens if named.lookahead is None else named.lookahead

    def open(self, named: Named, models: ModelOptions, target: Model) -> System:
        """A system of Outrider, ready to answer."""
        drafter, lookahead = self.open_drafter(named, models, target)
        return outrider_system(SpeculativeDecoder(drafter, target, lookahead, rule=self.rule), self.sampling())


def _parse(name: str) -> Named:
    kind, at, chosen = name.partition("@")
    if not at:
        return Named(name, kind, None)
    if not chosen.isdecimal():
        raise SettingError(f"--systems has {name!r}: after the @ comes a number of tokens, such as {kind}@4")
    return Named(name, kind, int(chosen))
