"""Where the tokens of a forward pass over a ragged cache go and what they may look at, for any runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from outrider.runtimes.ledger import Ledger


@dataclass
class Plan:
    """Where the tokens of one forward pass go and what they may look at.

    Attributes:
        rows: the rows of the cache, in the order of the batch.
        starts: how many tokens each row holds already.
        counts: how many new tokens each row gets; the batch is as wide as the largest.
        positions: int64 [batch, width], the position of each token in its text.
        sees: bool [batch, width, held] on the host; which held and new tokens each new token attends to. None where
            every row has one new token, which sees all, and all rows are equally long.
        held_positions: int64 [batch, held], the position of each held token in its text.
    """

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    counts: tuple[int, ...]
    positions: np.ndarray[Any, Any]
    sees: np.ndarray[Any, Any] | None
    held_positions: np.ndarray[Any, Any]

    @classmethod
    def of(cls, ledger: Ledger, rows: Sequence[int], counts: Sequence[int], ends: Sequence[int] | None = None) -> Self:
        """The plan of a pass whose new tokens the ledger has already written down as tentative.

        Args:
            ends: how many tokens each row holds after the pass; None is all that the ledger knows of.
        """
        ends = [ledger.end(row) for row in rows] if ends is None else ends
        starts = [end - count for end, count in zip(ends, counts, strict=True)]
        width, held = max(counts), max(ends)
        parents = [ledger.parents(row)[: end - ledger.length(row)] for row, end in zip(rows, ends, strict=True)]
        plain = width == 1 and len(set(starts)) == 1 and all(is_chain(above) for above in parents)
        positions = np.zeros((len(rows), width), dtype=np.int64)
        held_positions = np.tile(np.arange(held, dtype=np.int64), (len(rows), 1))
        sees = None if plain else np.zeros((len(rows), width, held), dtype=bool)
        for batch, (row, start, count, above) in enumerate(zip(rows, starts, counts, parents, strict=True)):
            kept = ledger.length(row)
            if is_chain(above):
                positions[batch, :count] = np.arange(start, start + count)
                if sees is not None:
                    sees[batch, :count] = np.arange(held)[None, :] <= np.arange(start, start + count)[:, None]
            else:
                assert sees is not None
                for node in range(len(above)):
                    path = ledger.ancestors(row, node)
                    held_positions[batch, kept + node] = kept + len(path) - 1
                    new = kept + node - start
                    if new >= 0:
                        positions[batch, new] = kept + len(path) - 1
                        sees[batch, new, :kept] = True
                        sees[batch, new, [kept + ancestor for ancestor in path]] = True
            if sees is not None:
                sees[batch, count:, 0] = True  # padding must see something, or its softmax is not a number
        return cls(tuple(rows), tuple(starts), tuple(counts), positions, sees, held_positions)

    @property
    def width(self) -> int:
        return int(self.positions.shape[1])

    @property
    def held(self) -> int:
        """How many tokens the longest row holds after this pass."""
        return int(self.held_positions.shape[1])

    @property
    def adjacent(self) -> bool:
        """Whether the rows lie side by side in the cache, so that one view shows all of them."""
        return self.rows == tuple(range(self.rows[0], self.rows[0] + len(self.rows)))

    def sees_within(self, window: int | None) -> np.ndarray[Any, Any] | None:
        """`sees`, of what is no further back than the window; None where each token sees all that is held.

        Args:
            window: how far back a token sees, itself included; None is all the way.
        """
        if window is None or window >= self.held:
            return self.sees
        sees = self.sees if self.sees is not None else np.ones((len(self.rows), self.width, self.held), dtype=bool)
        near = self.positions[:, :, None] - self.held_positions[:, None, :] < window
        within: np.ndarray[Any, Any] = np.logical_and(sees, near)
        return within


def is_chain(parents: Sequence[int]) -> bool:
    return all(parent == node - 1 for node, parent in enumerate(parents))
