"""The target's hidden states of one text, by position, until the head has read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from outrider.drafters.base import Reading
from outrider.maths.arrays import Array, concatenate
from outrider.maths.draft import EMPTY, ROOT, Draft


class State(NamedTuple):
    """The target's states at one position: a row of what was told of a whole pass, of all texts."""

    told: Array
    row: int


def joined(states: Sequence[State]) -> Array:
    """Of several positions, [positions, states of all layers]: one operation for those of one pass."""
    pieces = []
    for _, group in groupby(states, key=lambda state: id(state.told)):
        told, rows = zip(*group, strict=True)
        first, count = rows[0], len(rows)
        neighbours = rows == tuple(range(first, first + count))
        pieces.append(told[0][first : first + count] if neighbours else told[0][list(rows)])
    return pieces[0] if len(pieces) == 1 else concatenate(pieces)


@dataclass(frozen=True, slots=True)
class _Last:
    """The newest pass of the target over a text, of which the accepted tokens are not known yet.

    Attributes:
        start: the position of the first token that was fed.
        chain: how many tokens stand before the draft.
        told: of all texts of the pass; the tokens fed begin at row `first`.
    """

    start: int
    chain: int
    draft: Draft
    told: Array
    first: int

    def states(self, picked: Sequence[int]) -> list[State]:
        """Of these tokens."""
        return [State(self.told, self.first + place) for place in picked]


class TextFeatures:
    """The target's hidden states of one text that the head has not read, and the newest one that it has read.

    The text itself shows at the next call which nodes of a draft were accepted. So no verdict is needed, and
    rounds may be skipped. The states that are known are those of neighbouring positions. Where some are missing between
    them and new ones (a prefix that another text has read), the old ones are forgotten.

    Attributes:
        first: the position at which the head's row begins.
        end: after the last position whose state is known.
        states: of the last positions before `end`.
    """

    def __init__(self) -> None:
        self.first = 0
        self.end = 0
        self.states: list[State] = []
        self._last: _Last | None = None

    def add(self, reading: Reading, told: Array, first: int) -> None:
        """Take what a pass told.

        Args:
            told: [tokens, states of all layers], of all texts of the pass; those of this one begin at row `first`.
        """
        draft = EMPTY if reading.draft is None else reading.draft
        self._last = _Last(reading.start, len(reading.tokens) - len(draft), draft, told, first)

    def settle(self, text: Sequence[int]) -> bool:
        """Take in what the newest pass told of tokens that stayed in the text.

        Returns:
            whether what was known before is forgotten, so that the head's row begins at `first`.
        """
        last, self._last = self._last, None
        if last is None:
            return False
        picked = list(range(last.chain))
        place, node = last.start + last.chain, ROOT
        while place < len(text) - 1:  # the target has not fed the pending token yet
            node = next((child for child in last.draft.children(node) if last.draft.tokens[child] == text[place]), ROOT)
            if node == ROOT:
                break
            picked.append(last.chain + node)
            place += 1
        if last.start > self.end or not self.states:
            self.first, self.states = last.start, last.states(picked)
            self.end = last.start + len(picked)
            return True
        known = self.end - last.start  # read once more, after an interrupt
        if len(picked) > known:
            self.states += last.states(picked[known:])
            self.end += len(picked) - known
        return False

    def since(self, position: int) -> list[State]:
        """The states from a position on."""
        return self.states[len(self.states) - (self.end - position) :]

    def begin_at(self, position: int) -> None:
        """Have the head's row begin at this position, whose state is known."""
        self.forget_before(position)
        self.first = position

    def forget_before(self, position: int) -> None:
        """Forget the states of earlier positions."""
        self.states = self.since(position)
