"""The same lookahead, always."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from numbers import Integral

from outrider.errors import SettingError, shown
from outrider.lookahead.policy import LookaheadPolicy


class Fixed(LookaheadPolicy):
    """The same lookahead for every sequence in every round.

    Raises:
        SettingError: it is below 0, or no whole number.
    """

    def __init__(self, lookahead: int) -> None:
        if not isinstance(lookahead, Integral) or isinstance(lookahead, bool):
            raise SettingError(f"lookahead is {shown(lookahead)}: it must be a whole number of tokens")
        if lookahead < 0:
            raise SettingError(f"lookahead is {lookahead}: it must be at least 0 (0 decodes plainly)")
        self.lookahead: int = int(lookahead)

    def __repr__(self) -> str:
        return f"Fixed({self.lookahead})"

    @property
    def most(self) -> int:
        return self.lookahead

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        return [self.lookahead] * len(sequences)
