"""How many tokens to draft. A policy plans before the round and learns after it; it never sees the tokens drafted."""

from outrider.lookahead.adaptive import Adaptive, AdaptiveSpeculator
from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.fixed import Fixed
from outrider.lookahead.goodput.policy import Goodput
from outrider.lookahead.policy import DraftingTraits, LookaheadPolicy, Outcome, Times

__all__ = [
    "Adaptive",
    "AdaptiveSpeculator",
    "CostCurve",
    "DraftingTraits",
    "Fixed",
    "Goodput",
    "LookaheadPolicy",
    "Outcome",
    "Times",
    "as_policy",
]


def as_policy(lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None) -> LookaheadPolicy:
    """A policy from whatever a user gives: a number, a speculator, a policy; None chooses by measured goodput."""
    if lookahead is None:
        return Goodput()
    if isinstance(lookahead, int):
        return Fixed(lookahead)
    if isinstance(lookahead, AdaptiveSpeculator):
        return Adaptive(lookahead)
    return lookahead
