"""The distributions that drafts were drawn from, laid together for a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from outrider.maths.arrays import Array, float32
from outrider.runtimes.judging import Case
from outrider.runtimes.torch.cuda.verdicts.packing import used_rows


class Drawn:
    """The rows of q that tokens were drawn from, of all drafts, one after the other.

    Args:
        parts: what is joined, where the rows lie apart.
        base: where all rows lie, with their numbers there: the memory of a session that drew all drafts. One operation
            takes them out.
    """

    def __init__(self, parts: Sequence[torch.Tensor], base: torch.Tensor | None, rows: Sequence[int]) -> None:
        self._parts, self._base, self._rows = parts, base, rows

    @classmethod
    def of(cls, cases: Sequence[Case], like: torch.Tensor) -> Drawn:
        found: list[tuple[Any, list[int]]] = [(case.draft.q, rows) for case in cases if (rows := used_rows(case.draft))]
        base = _base_of([q for q, _ in found], like)
        if base is None:
            return cls([float32(_rows_of(q, rows), like=like) for q, rows in found], None, ())
        width = base.shape[1]
        return cls([], base, [(q.storage_offset() + row * q.stride(0)) // width for q, rows in found for row in rows])

    def name(self, into: np.ndarray[Any, np.dtype[np.int64]]) -> None:
        """Say where the rows lie, in the area that is copied to the device."""
        into[: len(self._rows)] = self._rows

    def joined(self, numbers: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """float32 [at least the rows, vocab].

        Args:
            numbers: what `name` wrote, on the device.
            out: where they go.
        """
        count = len(self._rows) if self._base is not None else sum(map(len, self._parts))
        into = None if out is None else out[:count]
        if self._base is not None:
            return torch.index_select(self._base, 0, numbers[:count], out=into)
        return torch.cat(list(self._parts), out=into)


def _base_of(every: Sequence[Array], like: torch.Tensor) -> torch.Tensor | None:
    """The memory [rows, vocab] in which rows of all these lie as they are; None where there is none."""
    tensors = [q for q in every if isinstance(q, torch.Tensor) and q.device == like.device]
    if len(tensors) < len(every) or len({q.untyped_storage().data_ptr() for q in tensors}) != 1:
        return None
    first = tensors[0]
    width = first.shape[1]
    for q in tensors:
        strides = q.stride(0) % width or q.storage_offset() % width or q.stride(1) != 1
        if strides or q.dtype is not torch.float32 or q.shape[1] != width:
            return None
    rows = first.untyped_storage().nbytes() // (width * first.element_size())
    return first.as_strided((rows, width), (width, 1), 0)


def _rows_of(q: Any, rows: Sequence[int]) -> Any:
    return q if len(rows) == q.shape[0] else q[list(rows)]
