"""Where the tokens of a pass go in their slots, and what each of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from outrider.runtimes.base import LAST_KEPT
from outrider.runtimes.layout import is_chain
from outrider.runtimes.ledger import Ledger

WORD = 64  # bits


@dataclass(frozen=True, slots=True)
class RowPlaces:
    """The new tokens of one row.

    Attributes:
        start: the place of the first new token in its slot; the others follow.
        base: every new token sees all places before this one.
        parents: of the tokens from `base` on, numbered from there; None where they are a chain from `start` on.
    """

    row: int
    start: int
    count: int
    base: int
    parents: tuple[int, ...] | None

    @classmethod
    def of(cls, ledger: Ledger, row: int, count: int) -> RowPlaces:
        """Of the newest `count` tentative tokens of a row."""
        kept, end = ledger.length(row), ledger.end(row)
        parents = ledger.parents(row)
        start = end - count
        if is_chain(parents):
            return cls(row, start, count, start, None)
        trunk = _trunk(parents, start - kept)
        return cls(row, start, count, kept + trunk, tuple(max(above - trunk, LAST_KEPT) for above in parents[trunk:]))

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def words(self) -> int:
        """Of 64 bits, that the ancestors of a token take."""
        return -(-(self.end - self.base) // WORD)

    def positions(self) -> np.ndarray[Any, Any]:
        """int64 [count], of the new tokens in their text."""
        if self.parents is None:
            return np.arange(self.start, self.end)
        depths: list[int] = []
        for above in self.parents:
            depths.append(0 if above == LAST_KEPT else depths[above] + 1)
        return np.array([self.base + depth for depth in depths[self.start - self.base :]])

    def ancestors(self, words: int) -> np.ndarray[Any, Any]:
        """int64 [count, words] of the new tokens: bit n is set where the token sees the token at place `base` + n."""
        if self.parents is None:
            return _of_chain(self.count, words)
        bits: list[int] = []
        for node, above in enumerate(self.parents):
            bits.append((0 if above == LAST_KEPT else bits[above]) | 1 << node)
        return _in_words(bits[self.start - self.base :], words)


def _trunk(parents: Sequence[int], most: int) -> int:
    """How many of the first tokens, at most `most`, are a chain that all later ones follow."""
    found = 0
    while found < most and parents[found] == found - 1 and min(parents[found + 1 :]) >= found:
        found += 1
    return found


@lru_cache(maxsize=256)
def _of_chain(count: int, words: int) -> np.ndarray[Any, Any]:
    return _in_words([(2 << node) - 1 for node in range(count)], words)


def _in_words(bits: Sequence[int], words: int) -> np.ndarray[Any, Any]:
    whole = b"".join(each.to_bytes(WORD // 8 * words, "little") for each in bits)
    return np.frombuffer(whole, dtype="<i8").reshape(len(bits), words)
