"""What the target said of one text, until the head has read it: hidden states by position."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outrider.drafters.base import Reading
from outrider.maths.arrays import Array, concatenate
from outrider.maths.draft import EMPTY, ROOT, Draft


@dataclass(frozen=True, slots=True)
class _Last:
    """The newest pass of the target over a text, of which it is not known yet what stays.

    Attributes:
        start: the position of the first token that was fed.
        chain: how many tokens stand before the draft.
        hidden: [tokens fed, states of all layers].
    """

    start: int
    chain: int
    draft: Draft
    hidden: Array


class TextFeatures:
    """The target's hidden states of one text that the head has not read, and the newest one that it has read.

    Which nodes of a draft were accepted is read off the text itself, at the next call: no news of a verdict is needed,
    and rounds may be skipped. The states that are known are those of neighbouring positions. Where some are missing
    between them and new ones (a prefix that another text has read), the old ones are forgotten.

    Attributes:
        first: the position at which the head's row begins.
        end: after the last position whose state is known.
        states: [positions, states of all layers], of the last positions before `end`.
    """

    def __init__(self) -> None:
        self.first = 0
        self.end = 0
        self.states: Array | None = None
        self._last: _Last | None = None

    def add(self, reading: Reading, gathered: Callable[[Sequence[Array]], Array]) -> None:
        """Copy what a pass told; its arrays may be the runtime's own memory.

        Args:
            gathered: makes the copy (`HeadNetwork.gathered`).
        """
        draft = EMPTY if reading.draft is None else reading.draft
        self._last = _Last(reading.start, len(reading.tokens) - len(draft), draft, gathered(reading.hidden))

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
        while place < len(text) - 1:  # of the pending token the target has not told yet
            node = next((child for child in last.draft.children(node) if last.draft.tokens[child] == text[place]), ROOT)
            if node == ROOT:
                break
            picked.append(last.chain + node)
            place += 1
        if last.start > self.end or self.states is None:
            self.first, self.states = last.start, last.hidden[picked]
            self.end = last.start + len(picked)
            return True
        known = self.end - last.start  # read once more, after an interrupt
        if len(picked) > known:
            self.states = concatenate([self.states, last.hidden[picked[known:]]])
            self.end += len(picked) - known
        return False

    def since(self, position: int) -> Array:
        """The states from a position on."""
        assert self.states is not None
        return self.states[len(self.states) - (self.end - position) :]

    def forget_before(self, position: int) -> None:
        """Forget the states of earlier positions."""
        self.states = concatenate([self.since(position)])
