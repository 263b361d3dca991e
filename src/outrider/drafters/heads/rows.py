"""Entries of a head that transformers computes: one cache for each row, fed one row after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch

from outrider.drafters.heads.entries import LedgerEntries
from outrider.drafters.heads.opening import tensor_of
from outrider.errors import InputError
from outrider.maths.arrays import Array, HostFloats32, HostInts, top_of_logits
from outrider.runtimes.base import Parents


class Row(Protocol):
    """The cache of one text. Its entries are numbered from 0; those of a draft come after the kept ones."""

    def append(self, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        """Take in entries of the text.

        Args:
            states: [entries, size of a state], of the target.
            tokens: those after them.

        Returns:
            [entries, hidden size]; only the last is used.
        """

    def draft(self, state: torch.Tensor, token: int) -> torch.Tensor:
        """One step on from a drafted token, [1, hidden size]. `state` [1, hidden size] is what the step before made."""

    def cut(self, length: int) -> None:
        """Drop the entries of a draft, and those of the text from `length` on."""


class RowEntries(LedgerEntries):
    """`Entries` (network.py) over one Row for each text. Drafts are chains."""

    def __init__(self, rows: int, capacity: int, open_row: Callable[[], Row]) -> None:
        super().__init__(rows, capacity)
        self._open_row = open_row
        self._held = [open_row() for _ in range(rows)]

    def keep(self, row: int, count: int) -> None:
        super().keep(row, count)
        self._held[row].cut(self.length(row))

    def truncate(self, row: int, length: int) -> None:
        super().truncate(row, length)
        if length:
            self._held[row].cut(length)
        else:
            self._held[row] = self._open_row()

    @torch.inference_mode()
    def extend(
        self,
        rows: Sequence[int],
        states: torch.Tensor,
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
    ) -> torch.Tensor:
        """Append entries tentatively: of the text where no parents are given, else one of a draft.

        Args:
            states: [entries of all rows, size of a state], the rows one after the other.
            tokens: for each row those after them.
            parents: as in `Pass`.

        Returns:
            [entries of all rows, hidden size], what the head makes of them.

        Raises:
            InputError: the draft is a tree.
        """
        fed = [self._ledger.end(row) - self._ledger.length(row) for row in rows]
        for row, count, above in zip(rows, fed, parents or (), strict=False):
            if above is not None and list(above) != [count - 1]:
                raise InputError(f"row {row} is drafted as a tree: such a head drafts chains")
        self._ledger.extend(rows, tokens, parents)
        made, end = [], 0
        for row, new in zip(rows, tokens, strict=True):
            own, end = states[end : end + len(new)], end + len(new)
            made.append(self._held[row].append(own, new) if parents is None else self._held[row].draft(own, new[0]))
        return torch.cat(made)


class RowNetwork(ABC):
    """A HeadNetwork (network.py) over the states of the target as they come, whose vocabulary is the target's.

    Args:
        layers: of the target, whose states it reads.
        vocab_size: of the target.
        like: a tensor where and how the head computes.
        deepest: the longest draft.
    """

    def __init__(self, layers: tuple[int, ...], vocab_size: int, like: torch.Tensor, deepest: int) -> None:
        self.layers = layers
        self.ids: HostInts = np.arange(vocab_size)
        self.deepest = deepest
        self._like = like

    @property
    @abstractmethod
    def bytes_per_entry(self) -> int: ...

    @abstractmethod
    def open_row(self) -> Row: ...

    @abstractmethod
    def scores(self, made: torch.Tensor) -> torch.Tensor:
        """Logits [entries, at least the vocabulary], in any precision."""

    def open(self, rows: int, capacity: int) -> RowEntries:
        return RowEntries(rows, capacity, self.open_row)

    def gathered(self, hidden: Sequence[Array]) -> Array:
        return torch.cat([tensor_of(layer).to(self._like.device, self._like.dtype) for layer in hidden], dim=-1)

    def read(self, hidden: Array) -> Array:
        return hidden

    def passed_on(self, made: Array) -> Array:
        return made

    @torch.inference_mode()
    def logits(self, made: Array) -> Array:
        return self.scores(made).float()[:, : len(self.ids)]

    def likely(self, made: Array, count: int) -> tuple[HostInts, HostFloats32]:
        return top_of_logits(self.logits(made), count)
