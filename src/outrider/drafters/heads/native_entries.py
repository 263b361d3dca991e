"""What a head of the compiled library has read. Apart from the library itself, which only a target of it needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.heads.entries import LedgerEntries
from outrider.maths.arrays import Array, HostInts
from outrider.runtimes.base import Parents


class NativeEntries(LedgerEntries):
    """A ledger, and a cache in the compiled library. See `Entries`."""

    def __init__(self, compiled: Any, rows: int, capacity: int) -> None:
        super().__init__(rows, capacity)
        self._compiled = compiled

    def grow(self, row: int, made: Array, tree: Any, node: int, ids: HostInts, count: int) -> int:
        """Answer all that a tree of the compiled library asks about one text, without a way back to Python.

        The entries are tentative in the compiled cache alone: the next `extend` writes over them.

        Args:
            made: of the text itself, [1, hidden size].
            tree: the library's own object.
            node: that it asks about.
            ids: of the network.
            count: tokens of an answer.

        Returns:
            how many nodes were read.
        """
        read: int = self._compiled.grow(row, self._ledger.length(row), made, tree, node, ids, min(count, len(ids)))
        return read

    def extend(
        self,
        rows: Sequence[int],
        states: Array,
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
    ) -> Array:
        self._ledger.extend(rows, tokens, parents)
        return self._compiled.forward(*self._laid_out(rows, tokens), states)

    def read(self, rows: Sequence[int], states: Array, tokens: Sequence[Sequence[int]]) -> list[Array]:
        """As `Entries.read`: of all but the newest entries the library makes keys and values alone.

        Args:
            states: the target's, for the library makes one of them itself.
        """
        self._ledger.extend(rows, tokens, None)
        made = self._compiled.read(*self._laid_out(rows, tokens), states)
        return [made[row : row + 1] for row in range(len(rows))]

    def _laid_out(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]]
    ) -> tuple[list[int], list[int], list[list[int]], list[list[int]]]:
        """Rows, their kept entries, the parents of the others, and the newest tokens, as the library takes them."""
        ledger = self._ledger
        kept = [ledger.length(row) for row in rows]
        return list(rows), kept, [list(ledger.parents(row)) for row in rows], [list(new) for new in tokens]
