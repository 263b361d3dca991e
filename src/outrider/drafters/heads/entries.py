"""The book-keeping of `Entries` (network.py) that is the same wherever a head is computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import accumulate

from outrider.maths.arrays import Array
from outrider.runtimes.base import Parents
from outrider.runtimes.ledger import Ledger


class LedgerEntries(ABC):
    """Which entries every row holds. A subclass adds `extend`, and what its cache has to do besides.

    Args:
        rows, capacity: how many texts, and entries of each.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows = rows
        self._ledger = Ledger(rows, capacity)

    def length(self, row: int) -> int:
        """How many entries are kept."""
        return self._ledger.length(row)

    def keep(self, row: int, count: int) -> None:
        """Keep the first tentative entries, which are a chain, and drop the others."""
        self._ledger.keep(row, range(count))

    def truncate(self, row: int, length: int) -> None:
        self._ledger.truncate(row, length)

    def release(self, row: int) -> None:
        self.truncate(row, 0)

    @abstractmethod
    def extend(
        self,
        rows: Sequence[int],
        states: Array,
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
    ) -> Array: ...

    def read(self, rows: Sequence[int], states: Array, tokens: Sequence[Sequence[int]]) -> list[Array]:
        """As `Entries.read`, where a cache computes all entries alike."""
        return newest_of(self.extend(rows, states, tokens), tokens)


def newest_of(made: Array, tokens: Sequence[Sequence[int]]) -> list[Array]:
    """For each row [1, hidden size], the last of its entries of made [entries of all rows, hidden size]."""
    return [made[end - 1 : end] for end in accumulate(map(len, tokens))]
