"""How many tokens to draft. A policy plans before the round and learns after it; it never sees the tokens drafted."""

from numbers import Integral

from outrider.errors import SettingError, shown
from outrider.lookahead.adaptive import Adaptive, AdaptiveSpeculator
from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.fixed import Fixed
from outrider.lookahead.goodput.goodput import Goodput
from outrider.lookahead.policy import DraftingTraits, LookaheadPolicy, Outcome, Times
from outrider.maths.budget import USUAL_DRAFT

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


def as_policy(
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None, widest: int = USUAL_DRAFT
) -> LookaheadPolicy:
    """A policy from whatever a user gives: a number, a speculator, a policy; None chooses by measured goodput.

    Args:
        widest: the most tokens of a draft where None chooses.

    Raises:
        SettingError: it is none of these, or a number below 0.
    """
    if lookahead is None:
        return Goodput(widest)
    if isinstance(lookahead, Integral) and not isinstance(lookahead, bool):
        return Fixed(int(lookahead))
    if isinstance(lookahead, AdaptiveSpeculator):
        return Adaptive(lookahead)
    if not isinstance(lookahead, LookaheadPolicy):
        raise SettingError(
            f"lookahead is {shown(lookahead)}: give a number of tokens, an AdaptiveSpeculator, a policy, or None"
        )
    return lookahead
