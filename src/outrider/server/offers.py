"""The drafters that a request may name, and what it asks of speculation, in the terms of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict, cast

from outrider.errors import shown
from outrider.maths.rules import RULES, RuleName, rule_named
from outrider.server.errors import refused

NO_DRAFTER = "none"


@dataclass(frozen=True, slots=True)
class Offer:
    """A drafter that a request may name.

    Attributes:
        name: of the engine's drafters; None is the engine's own.
        chains: of the same without trees, for rules that judge chains alone.
        copies: whether it copies from a text that is expected.
    """

    name: str | None
    chains: str | None
    copies: bool = False


class Speculated(TypedDict):
    """Fields of a Request."""

    num_draft_tokens: int | None
    drafter: str | None
    rule: RuleName | None


PLAIN = Speculated(num_draft_tokens=0, drafter=None, rule=None)


@dataclass(frozen=True, slots=True)
class Offers:
    """What a server offers.

    Attributes:
        own: the name of the drafter for requests that name none; "none" decodes plainly.
        rule: for requests that name none.
        drafters: by name, the server's own among them.
    """

    own: str
    rule: str
    drafters: Mapping[str, Offer]

    @property
    def names(self) -> list[str]:
        """What `speculative.drafter` may be."""
        return list(dict.fromkeys((self.own, *self.drafters, NO_DRAFTER)))

    def speculated(self, drafter: str | None, num_draft_tokens: int | None, rule: str | None) -> Speculated:
        """The fields of a Request for what a body asks for.

        Raises:
            ApiError: there is no such drafter, or no such rule.
        """
        if rule is not None and rule not in RULES:
            raise _unknown("rule", rule, RULES)
        if drafter is not None and drafter not in self.names:
            raise _unknown("drafter", drafter, self.names)
        chosen = self.own if drafter is None else drafter
        if chosen == NO_DRAFTER:
            return PLAIN | Speculated(num_draft_tokens=0, drafter=None, rule=cast("RuleName | None", rule))
        offer = self.drafters.get(chosen, Offer(None, None))
        judges_trees = rule_named(self.rule if rule is None else rule).judges_trees
        return Speculated(
            num_draft_tokens=num_draft_tokens,
            drafter=offer.name if judges_trees else offer.chains,
            rule=cast("RuleName | None", rule),
        )

    def copies(self, drafter: str | None) -> bool:
        """Whether the drafter of this name copies from a text that is expected."""
        offer = self.drafters.get(self.own if drafter is None else drafter)
        return offer is not None and offer.copies


def _unknown(field: str, value: str, known: Iterable[str]) -> Exception:
    *others, last = known
    all_known = f"{', '.join(others)} and {last}" if others else last
    return refused(f"speculative.{field} is {shown(value)}: this server has {all_known}", f"speculative.{field}")
