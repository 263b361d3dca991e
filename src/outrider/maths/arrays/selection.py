"""The largest numbers of each row, exactly, without sorting the row; for arrays that lie on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from outrider.maths.arrays.base import Array, HostFloats, HostFloats32, HostInts

LINES = 64  # into which a row is cut at the most
CACHED = 2**18  # numbers that are worked on together: in float32 they stay in a core's cache from step to step


@dataclass(frozen=True, slots=True)
class Lines:
    """A row cut into lines of one length, laid below one another: array libraries compare whole lines at once.

    Attributes:
        width: of the row.
        columns: of each line; the last line may be shorter.
    """

    width: int

    @property
    def columns(self) -> int:
        return -(-self.width // LINES)

    @property
    def full(self) -> int:
        """How many lines are as long as the first."""
        return self.width // self.columns

    @property
    def whole(self) -> int:
        """How many numbers stand in full lines."""
        return self.full * self.columns


def pieces(rows: int, width: int) -> Iterator[slice]:
    """The rows in pieces of at most CACHED numbers, but of one row at least."""
    step = max(CACHED // width, 1)
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def leading(
    x: Array, maxima: Array, count: int, look: Callable[[Array, HostInts, HostInts], np.ndarray[Any, Any]]
) -> tuple[HostFloats, HostInts]:
    """Each row's largest values, falling, and where they stand; of equal values the first place comes first.

    At least `count` values of a row reach the `count`-th largest maximum of its columns. So all that are sought stand
    in the columns whose maximum reaches it, and these are few.

    Args:
        x: [rows, width].
        maxima: [rows, columns], the largest of each column below the Lines of a row.
        count: at most `width`.
        look: (x, rows, places) -> the values there, in NumPy.

    Returns:
        (values, places), both [rows, count]. Of a row that holds a NaN they mean nothing.
    """
    rows, columns = maxima.shape
    if count > columns:
        least = np.full((rows, 1), -np.inf, dtype=np.float32)
    else:
        least = np.partition(maxima, -count, axis=-1)[:, -count, None]
    row, column = (~(maxima < least)).nonzero()  # a NaN is not less: so there are always `count` of them
    row, places = row[:, None], column[:, None] + np.arange(0, LINES * columns, columns)
    within = places < x.shape[1]
    values = look(x, row, np.where(within, places, 0))
    found = (within & ~(values < least[row[:, 0]])).nonzero()
    row, places, values = row[found[0], 0], places[found], values[found]
    order = np.lexsort((places, -values, row))
    ends = np.bincount(row, minlength=rows).cumsum()
    first = order[(np.append(0, ends[:-1]) if rows else ends)[:, None] + np.arange(count)]
    return values[first].astype(np.float64), places[first].astype(np.int64, copy=False)


def falling(values: Array, tokens: HostInts) -> tuple[HostFloats, HostInts]:
    """Each row with its largest value first; of equal values the first token."""
    order = np.lexsort((tokens, -values), axis=-1)
    every = np.arange(len(order))[:, None]
    return values[every, order].astype(np.float64), tokens[every, order].astype(np.int64, copy=False)


def probabilities_of(values: HostFloats, totals: HostFloats) -> HostFloats32:
    """The softmax at the largest logits of each row.

    Args:
        values: [rows, count], falling.
        totals: [rows], sums of exp(logit - largest logit); NaN where a logit is, which makes the whole row NaN.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(values - values[:, :1]) / totals[:, None], dtype=np.float32)
