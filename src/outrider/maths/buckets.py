"""The shapes in which passes are recorded: a pass is padded to the next larger one."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from outrider.maths.arrays import HostInts


@dataclass(frozen=True, slots=True)
class Buckets:
    """What a pass is padded to, where passes of one shape are recorded once and then replayed (CUDA graphs).

    A pass that is larger than the largest bucket is not padded.

    Attributes:
        rows: numbers of rows, ascending.
        widths: new tokens of each row, ascending.
        uses: runs of one shape before it is replayed; those before take longer.
    """

    rows: tuple[int, ...]
    widths: tuple[int, ...]
    uses: int = 3

    def of(self, rows: int, width: int) -> tuple[int, int] | None:
        """The bucket (rows, width) of a pass; None where it is larger than the largest."""
        row, column = bisect_left(self.rows, rows), bisect_left(self.widths, width)
        if row == len(self.rows) or column == len(self.widths):
            return None
        return self.rows[row], self.widths[column]

    def padded_rows(self, rows: int) -> int:
        found = self.of(rows, self.widths[0])
        return rows if found is None else found[0]

    def padded(self, rows: int, tokens: HostInts) -> HostInts:
        """What passes of these rows compute: tokens of all rows together, with padding.

        Args:
            tokens: [counts], of all rows together; divided as evenly as they can be.
        """
        widths = np.asarray(self.widths)
        width = -(-np.asarray(tokens) // rows)
        place = np.searchsorted(widths, width)
        fits = (place < len(widths)) & (rows <= self.rows[-1])
        return np.where(fits, self.padded_rows(rows) * widths[np.minimum(place, len(widths) - 1)], tokens)
