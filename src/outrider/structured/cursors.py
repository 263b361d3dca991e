"""Where matchers stand in their texts: a few of them, moved to whatever text is asked about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MOST_CURSORS = 32  # of one grammar: texts that are decoded at once, and some that were left
NEAR = 16  # tokens that a matcher reads again rather than leaving its own text to another one


class Cursor:
    """A matcher of llguidance and the tokens that it has read.

    Moving back costs about 2 microseconds, and so does each token read.
    """

    def __init__(self, matcher: Any, tokens: list[int]) -> None:
        self.matcher = matcher
        self.tokens = tokens

    def copy(self) -> Cursor:
        return Cursor(self.matcher.deep_copy(), list(self.tokens))

    def move(self, text: Sequence[int], shared: int) -> bool:
        """Go to `text`, of which the first `shared` tokens were read already.

        Returns:
            False where the grammar does not allow the text. The cursor then stands at what it allows of it.
        """
        if len(self.tokens) > shared:
            self.matcher.rollback(len(self.tokens) - shared)
            del self.tokens[shared:]
        coming = list(text[shared:])
        read = self.matcher.try_consume_tokens(coming) if coming else 0
        self.tokens += coming[:read]
        return bool(read == len(coming))


class Cursors:
    """Cursors of one grammar. The answer to a question depends on the text that is asked about, never on the cursors.

    Args:
        matcher: at the beginning of a text.
    """

    def __init__(self, matcher: Any) -> None:
        self._start = Cursor(matcher, [])
        self._cursors: list[Cursor] = [self._start.copy()]  # the one used last stands last

    def at(self, text: Sequence[int]) -> Any | None:
        """The matcher, at the end of `text`; None where the grammar does not allow it."""
        text = list(text)
        place, shared = self._nearest(text)
        cursor = self._cursors.pop(place)
        if cursor.matcher.is_error():  # which it never leaves
            cursor, shared = self._start.copy(), 0
        left = len(cursor.tokens) - shared  # of its own text
        if min(left, len(text) - shared) > NEAR:  # it stands in another text, which may be asked about again
            self._cursors.append(cursor)
            cursor = cursor.copy()
            del self._cursors[: len(self._cursors) + 1 - MOST_CURSORS]
        self._cursors.append(cursor)
        return cursor.matcher if cursor.move(text, shared) else None

    def _nearest(self, text: list[int]) -> tuple[int, int]:
        """The cursor that shares most of the text, by its place, and how many tokens that are."""
        best, most = len(self._cursors) - 1, -1
        for place in reversed(range(len(self._cursors))):
            shared = shared_beginning(self._cursors[place].tokens, text)
            if shared > most:
                best, most = place, shared
            if shared == len(text):
                break
        return best, most


def shared_beginning(one: list[int], other: list[int]) -> int:
    """How many tokens two texts begin with in common; texts that differ near their ends are compared quickly."""
    length = min(len(one), len(other))
    step = 1
    certain = length
    while certain and one[:certain] != other[:certain]:
        certain = max(0, length - step)
        step *= 2
    while certain < length and one[certain] == other[certain]:
        certain += 1
    return certain
