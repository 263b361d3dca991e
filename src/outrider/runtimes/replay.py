"""Snapshot and replay: sessions of models whose state cannot be rolled back, or cannot hold a tree.

A recurrent state (Mamba, RWKV, the linear layers of hybrids) cannot drop its last tokens. So the session takes a
snapshot before it reads draft tokens, and goes back to it where they are rejected. The accepted tokens are read again,
in one pass with the next draft as long as they are few. Texts are read one by one, trees path by path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from outrider.maths.arrays import Array
from outrider.runtimes.base import Pass, Scored, Traits
from outrider.runtimes.ledger import LedgerSession, scored, stacked
from outrider.runtimes.prefixes import common_length

FEW = 8  # committed tokens that are read again together with a draft; more get a pass of their own


class Reader(Protocol):
    """A model that reads one text, and can go back in it.

    Attributes:
        exact: whether `back` always reaches the length that it was asked for.
        stepwise: whether it reads token by token anyway. Then a mark at every token costs no extra pass.
    """

    exact: bool
    stepwise: bool

    def read(self, tokens: Sequence[int], wanted: int) -> Array:
        """Append tokens; logits [wanted, vocab] at each of the last `wanted` tokens."""

    def back(self, length: int) -> int:
        """Go back to `length` tokens, or to an earlier mark; returns the length reached."""

    def mark(self) -> None:
        """Remember the present length as one to go back to."""

    def settle(self, length: int) -> None:
        """The first `length` tokens are committed: only the last mark within them is still needed."""

    def close(self) -> None:
        """Free what is held; the text is empty again."""


class State(Protocol):
    """The state of a model after a text."""

    def read(self, tokens: Sequence[int], wanted: int) -> Array:
        """Append tokens; logits [wanted, vocab] at each of the last `wanted` tokens."""

    def copy(self) -> State:
        """A snapshot: it stays as it is while this state reads more.

        After going back to a snapshot, the caller no longer uses snapshots that were taken later in the text.
        """


class Snapshots:
    """A Reader over a state that can be copied but not cropped.

    Args:
        start: makes the state of an empty text.
        stepwise: whether the state reads token by token anyway.
    """

    exact = False

    def __init__(self, start: Callable[[], State], *, stepwise: bool = False) -> None:
        self.stepwise = stepwise
        self._start = start
        self._state = start()
        self._length = 0
        self._marks: list[tuple[int, State]] = []

    def read(self, tokens: Sequence[int], wanted: int) -> Array:
        self._length += len(tokens)
        return self._state.read(tokens, wanted)

    def back(self, length: int) -> int:
        if length < self._length:
            while self._marks and self._marks[-1][0] > length:
                self._marks.pop()
            self._length, state = self._marks[-1] if self._marks else (0, self._start())
            self._state = state.copy()
        return self._length

    def mark(self) -> None:
        if self._length and (not self._marks or self._marks[-1][0] < self._length):
            self._marks.append((self._length, self._state.copy()))

    def settle(self, length: int) -> None:
        while len(self._marks) > 1 and self._marks[1][0] <= length:
            self._marks.pop(0)

    def close(self) -> None:
        self._state, self._length, self._marks = self._start(), 0, []


class ReplaySession(LedgerSession):
    """Rows that are read one at a time, each by its own Reader.

    `keep` and `truncate` only update the ledger. When logits are wanted, the session compares what the reader has read
    with what the row holds, and takes the reader to where it must be.

    Args:
        start: makes the reader of an empty text.
    """

    def __init__(self, start: Callable[[], Reader], rows: int, capacity: int, name: str, traits: Traits) -> None:
        super().__init__(rows, capacity, name, traits)
        self._readers = [start() for _ in range(rows)]
        self._read: list[list[int]] = [[] for _ in range(rows)]

    def extend(self, work: Pass) -> Scored:
        self._append(work)
        rows: list[Array] = []
        for row, count in zip(work.rows, work.wanted_counts, strict=True):
            rows += self._logits(row, count)
        return scored(work, stacked(rows, self._traits.vocab_size))

    def keep(self, row: int, path: Sequence[int]) -> None:
        self._ledger.keep(row, path)

    def adopt(self, row: int, source: int, length: int) -> None:
        # The row's own reader goes on from what it has read of these tokens; a copy is read again.
        self._ledger.adopt(row, source, length)

    def release(self, row: int) -> None:
        self._ledger.truncate(row, 0)
        self._readers[row].close()
        self._read[row] = []

    def _logits(self, row: int, count: int) -> list[Array]:
        """Logits [vocab] of each of the last `count` nodes, read along the paths to the leaves among them."""
        parents = self._ledger.parents(row)
        nodes = range(len(parents) - count, len(parents))
        leaves = sorted(set(nodes) - set(parents)) or [len(parents) - 1]
        branches = {parent for parent, children in Counter(parents).items() if children > 1}
        found: dict[int, Array] = {}
        for leaf in self._in_order(row, leaves):
            path = self._ledger.ancestors(row, leaf)[::-1]
            kept = self._ledger.length(row)
            first = next((depth for depth, node in enumerate(path) if node in nodes and node not in found), len(path))
            turns = {kept + depth + 1 for depth, node in enumerate(path) if node in branches}
            rows = self._read_to(row, self._ledger.context(row, leaf), len(path) - first, turns)
            found |= dict(zip(path[first:], rows, strict=True))
        return [found[node] for node in nodes]

    def _in_order(self, row: int, leaves: Sequence[int]) -> list[int]:
        """Leaves sorted by path, so that a common beginning is read once."""
        return sorted(leaves, key=lambda leaf: self._ledger.ancestors(row, leaf)[::-1])

    def _read_to(self, row: int, text: Sequence[int], wanted: int, turns: set[int]) -> list[Array]:
        """Take the row's reader to the end of `text`.

        Args:
            wanted: how many of the last tokens are scored.
            turns: lengths at which the tree branches: the reader will come back to them.

        Returns:
            logits [vocab] of each scored token.
        """
        reader, read = self._readers[row], self._read[row]
        most = len(text) - wanted
        self._read[row] = []  # until the pass is over: it may fail, or be interrupted
        try:
            place = reader.back(min(common_length(read, text), most))
            logits: list[Array] = []
            for mark in (*self._marks(row, place, len(text), wanted, turns), len(text)):
                if place < mark:
                    count = max(0, min(mark - place, mark - most))
                    piece = reader.read(text[place:mark], count)
                    logits.extend(piece[i] for i in range(count))
                    place = mark
                if mark < len(text):
                    reader.mark()
        except BaseException:
            reader.close()
            raise
        reader.settle(self._ledger.length(row))
        self._read[row] = list(text)
        return logits

    def _marks(self, row: int, place: int, end: int, wanted: int, turns: set[int]) -> list[int]:
        """The lengths between `place` and `end` at which to set a mark."""
        reader, kept = self._readers[row], self._ledger.length(row)
        if reader.exact:
            return []
        if reader.stepwise:
            return list(range(max(place, end - wanted), end))  # not in all of a prompt: a snapshot may be large
        marks = {mark for mark in turns if mark > place}
        if place <= kept:
            marks |= {place, kept} if kept - place > FEW else {place}
        return sorted(marks)
