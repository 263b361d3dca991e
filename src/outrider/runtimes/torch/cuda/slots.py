"""The KV cache on a GPU: a fixed slot of memory for each row, in one tensor, at addresses that never change."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outrider.runtimes.torch.cuda.device import Device
from outrider.runtimes.torch.llama_layers import Shape

SPARE = 256  # places behind the last slot, which padding writes to; a rollout goes on from one to the next


class SlotCache:
    """Keys and values of all layers, [2, layers, places, key heads, size].

    Row r has the places from r * capacity on, its slot. Accepted branches are moved with the next pass, those of all
    rows at once.

    Attributes:
        scratch: the first place that belongs to no row: padding is written there.
        moves: (source, target) of what is to be moved, as places in the cache of all slots.
    """

    def __init__(self, device: Device, rows: int, capacity: int, shape: Shape, dtype: torch.dtype) -> None:
        self.capacity, self.scratch = capacity, rows * capacity
        self.moves: list[tuple[int, int]] = []
        places = self.scratch + SPARE
        layers, heads = shape.layers, (shape.key_heads, shape.head_size)
        self._flat = torch.zeros((2, layers, places, *heads), dtype=dtype, device=device.place)
        self._slots = self._flat[:, :, : self.scratch].view(2, layers, rows, capacity, *heads)

    def keys(self, layer: int) -> torch.Tensor:
        """[slots, capacity, key heads, size]."""
        return self._slots[0, layer]

    def values(self, layer: int) -> torch.Tensor:
        """[slots, capacity, key heads, size]."""
        return self._slots[1, layer]

    def write(self, layer: int, places: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put [tokens, key heads, size] at these places of the cache of all slots."""
        self._flat[0, layer].index_copy_(0, places, keys)
        self._flat[1, layer].index_copy_(0, places, values)

    def move(self, row: int, sources: Sequence[int], target: int) -> None:
        """Put the entries at `sources` one after the other from `target` on, before the next pass."""
        start = row * self.capacity
        places = enumerate(sources, start=target)
        self.moves += [(start + source, start + place) for place, source in places if source != place]

    @torch.inference_mode()
    def carry_out(self, moves: torch.Tensor) -> None:
        """Move entries of all layers and rows at once; all are read before the first is written.

        Args:
            moves: int64 [2, moves], sources and targets, on the device.
        """
        self._flat.index_copy_(2, moves[1], self._flat.index_select(2, moves[0]))
        self.moves = []

    @torch.inference_mode()
    def adopt(self, row: int, source: int, length: int) -> None:
        """Copy the first `length` entries of row `source`."""
        if self.moves:
            self.carry_out(torch.tensor(self.moves, device=self._flat.device).T.contiguous())
        if row != source:
            self._slots[:, :, row, :length] = self._slots[:, :, source, :length]

    def clear(self, row: int) -> None:
        """Forget what was to be moved. Nothing need be overwritten: what no token sees is not read, be it NaN."""
        first, end = row * self.capacity, (row + 1) * self.capacity
        self.moves = [move for move in self.moves if not first <= move[0] < end]
