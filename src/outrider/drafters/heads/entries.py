"""The book-keeping of `Entries` (network.py) that is the same wherever a head is computed."""

from __future__ import annotations

from outrider.runtimes.ledger import Ledger


class LedgerEntries:
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
