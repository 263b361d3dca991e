"""The layout of a pass over a ragged cache: positions, places in the cache and the attention mask, for any runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from outrider.runtimes.ledger import Ledger


@dataclass
class Plan:
    """Where the tokens of one pass go in the cache, and what they attend to (attention metadata).

    Attributes:
        rows: the rows of the cache, in the order of the batch.
        starts: how many tokens each row holds before the pass.
        counts: how many new tokens each row gets; the largest is the width of the batch.
        positions: int64 [batch, width], the position of each new token in its text.
        sees: bool [batch, width, held] on the host: the attention mask of new tokens over held ones, themselves
            included. None where no mask is needed: one new token in every row, and all rows equally long.
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
        """The plan of a pass whose new tokens the ledger already holds as tentative.

        Args:
            ends: how many tokens each row holds after the pass; None takes all tokens of the ledger.
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
                sees[batch, count:, 0] = True  # the softmax of a row that sees nothing is NaN
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
        """Whether the rows are neighbours in the cache, so that one view shows all of them."""
        return self.rows == tuple(range(self.rows[0], self.rows[0] + len(self.rows)))

    def sees_within(self, window: int | None) -> np.ndarray[Any, Any] | None:
        """`sees` within a sliding window; None where no mask is needed.

        Args:
            window: how many tokens back a token sees, itself included; None is no limit.
        """
        if window is None or window >= self.held:
            return self.sees
        sees = self.sees if self.sees is not None else np.ones((len(self.rows), self.width, self.held), dtype=bool)
        near = self.positions[:, :, None] - self.held_positions[:, None, :] < window
        within: np.ndarray[Any, Any] = np.logical_and(sees, near)
        return within


def is_chain(parents: Sequence[int]) -> bool:
    return all(parent == node - 1 for node, parent in enumerate(parents))
