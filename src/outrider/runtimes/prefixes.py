"""Which text each row of a session holds, so that another text that begins the same way need not read it again.

The row of a text that has ended keeps its keys and values until the row is needed (automatic prefix caching). A new
text adopts the longest common prefix, of a kept row or of a row in use.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple

from outrider.runtimes.base import Session, Traits

FEWEST = 16  # tokens: a shorter prefix, such as <s> or the opening of a chat template, is not worth a row's text


class Owned(NamedTuple):
    """A text, and who may adopt a prefix of it.

    Attributes:
        tokens: of a row; its committed tokens are a beginning of these.
        isolation: a prefix is shared between texts of equal keys; None shares with nobody.
    """

    tokens: Sequence[int]
    isolation: Hashable | None


class Prefix(NamedTuple):
    """The beginning of a text that a row holds.

    Attributes:
        row: that holds it; None where no row does.
        length: tokens.
    """

    row: int | None
    length: int


NO_PREFIX = Prefix(None, 0)


class Prefixes:
    """The rows of a session that are kept for later texts, the least recently used first.

    Args:
        traits: of the model. Where rows cannot be cropped, one is adopted whole and in place, or not at all. Where kept
            rows slow the others down, only the newest one is kept, as long as no other text begins alone.
    """

    def __init__(self, session: Session, traits: Traits) -> None:
        self._session = session
        self._crops = traits.crops
        self._costly = traits.attends_over_rows
        self._kept: dict[int, Owned] = {}
        self._trusted = True

    @property
    def kept(self) -> Mapping[int, Owned]:
        """What the rows hold that are kept for later texts."""
        return self._kept

    def keep(self, row: int, text: Owned) -> None:
        """The text of a row has ended: keep what the row holds of it, or empty the row if nobody may adopt it."""
        # The last round may have committed draft tokens behind the end of the text.
        held = min(self._session.length(row), len(text.tokens))
        self._kept.pop(row, None)
        if text.isolation is None or held < FEWEST or not self._trusted:
            self._session.release(row)
            return
        if self._costly:
            self._give_up_all()
        self._session.truncate(row, held)
        self._kept[row] = Owned(tuple(text.tokens[:held]), text.isolation)

    def distrust(self) -> None:
        """A text failed, and what spoilt it may lie in memory that rows share: empty all rows, and keep none."""
        self._trusted = False
        self._give_up_all()

    def trust(self) -> None:
        """No row is in use: whatever spoilt a text is gone."""
        self._trusted = True

    def longest(self, text: Owned, used: Mapping[int, Owned]) -> Prefix:
        """The longest prefix of a text that a row holds; of equal ones, that of a kept row, then the newest.

        Args:
            text: at least its last token is left to read: the logits after it are wanted.
            used: the texts of the rows in use.
        """
        best = NO_PREFIX
        if text.isolation is None or len(text.tokens) <= FEWEST:  # so short a text has nothing to adopt
            return best
        for row, kept in self._kept.items():
            length = self.shared(text, kept)
            if (self._crops or length == len(kept.tokens)) and length >= max(best.length, FEWEST):
                best = Prefix(row, length)
        for row, other in used.items() if self._crops else ():
            length = min(self.shared(text, other), self._session.length(row))
            if length >= FEWEST and length > best.length:
                best = Prefix(row, length)
        return best

    def place(self, prefix: Prefix, most: int, free: Sequence[int]) -> tuple[int, int]:
        """Give a row to a text, which adopts a prefix.

        Args:
            prefix: from `longest`.
            most: tokens of it that may be adopted.
            free: the rows that are not in use, at least one.

        Returns:
            the row, and how many tokens it holds.
        """
        usable = most >= prefix.length or (self._crops and most >= FEWEST)
        source, length = Prefix(prefix.row, min(prefix.length, most)) if usable else NO_PREFIX
        if self._costly and source is None and len(free) == self._session.rows:
            self._give_up_all()
        row = self._row_for(source, length, free)
        self._kept.pop(row, None)  # first: after an interrupt it is a row like any other that is not in use
        if source is None:
            self._session.release(row)
            return row, 0
        self._session.adopt(row, source, length)
        if source in self._kept:
            self._kept[source] = self._kept.pop(source)  # used just now
        return row, length

    def _row_for(self, source: int | None, length: int, free: Sequence[int]) -> int:
        """The row whose text is missed least."""
        if source is not None and source in free and (self._costly or length == len(self._kept[source].tokens)):
            return source  # all of what it holds is adopted
        empty = next((row for row in free if row not in self._kept), None)
        return empty if empty is not None else next(row for row in self._kept if row in free)

    def _give_up_all(self) -> None:
        while self._kept:
            row, _ = self._kept.popitem()
            self._session.release(row)

    @staticmethod
    def shared(text: Owned, other: Owned) -> int:
        """How many tokens of a text another may give it."""
        if text.isolation != other.isolation:
            return 0
        return min(common_length(text.tokens, other.tokens), len(text.tokens) - 1)


def common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens at the beginning of both agree."""
    one, other = list(one), list(other)
    agreed, end = 0, min(len(one), len(other))
    if one[:end] == other[:end]:  # the rule, and quickly found
        return end
    while end - agreed > 1:  # they differ between the two: compare whole slices, which is faster than token by token
        middle = (agreed + end) // 2
        if one[agreed:middle] == other[agreed:middle]:
            agreed = middle
        else:
            end = middle
    return agreed
