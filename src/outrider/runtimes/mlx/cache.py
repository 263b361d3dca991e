"""A KV cache of rows of different lengths, on MLX, behind the interface of mlx-lm's caches.

A model of mlx-lm asks its cache for three things: `offset`, the position of each row's first new token; a mask; and the
keys and values to attend to, once it has handed over the new ones. Here each row owns a range of memory, new keys and
values go to the row's own next places, and rolling back only lowers a length: nothing is ever shifted.

A pass has one of two layouts. *Abreast*: a row of the batch is a row of the cache, and its new tokens follow one
another. *Apart*: every new token is a row of the batch by itself. MLX applies rotary embeddings at one position per
row, so this gives the tokens of a tree their own positions in any architecture. The layers see the same number of
tokens either way; only attention reads a row's keys and values once per token instead of once.
"""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from outrider.runtimes.layout import Plan

STEP = 256  # tokens by which the memory of the rows grows


class MlxCache:
    """Keys and values of all layers, [rows, heads, room, size] each.

    Args:
        windows: for each layer, how many tokens back a token sees, itself included; None is no limit.

    Attributes:
        layers: the cache as the model takes it, one object per layer.
    """

    def __init__(self, rows: int, windows: Sequence[int | None]) -> None:
        self.rows = rows
        self.layers = [MlxLayer(self, window) for window in windows]
        self._written = [0] * rows  # tokens written to each row since it was cleared, rolled back ones included
        self._masks: dict[int | None, mx.array | None] = {}

    def begin(self, plan: Plan, *, apart: bool) -> None:
        """The next pass follows this plan.

        Args:
            apart: whether every new token is a row of the batch by itself. Then no row is padded.
        """
        self.plan = plan
        self.apart = apart
        self._masks = {}
        new = np.arange(plan.width)[None, :] < np.array(plan.counts)[:, None]
        places = np.array(plan.starts)[:, None] + np.arange(plan.width)[None, :]
        rows = np.repeat(np.array(plan.rows)[:, None], plan.width, axis=1)
        if apart:
            self._batch_rows = rows[new]
            places, positions = places[new][:, None], plan.positions[new]
        else:
            self._batch_rows = np.array(plan.rows)
            positions = plan.positions[:, 0]
        # Some models compute with the offset in ways that take a number and no array.
        self.offset = int(positions[0]) if len(positions) == 1 else mx.array(positions.astype(np.int32))
        self._new = new
        self._room = int(places.max()) + 1
        self._first_place = int(places.min())
        self._slots = (mx.array(self._batch_rows[:, None]), mx.array(places))
        self._gather = None if len(set(self._batch_rows)) == 1 or self.in_order else mx.array(self._batch_rows)
        for row, start in zip(plan.rows, plan.starts, strict=True):
            self._written[row] = max(self._written[row], start + plan.width)

    @property
    def in_order(self) -> bool:
        """Whether the batch is a run of rows, so that a view shows what they hold."""
        return not self.apart and self.plan.adjacent

    def write(self, buffer: mx.array | None, new: mx.array) -> tuple[mx.array, mx.array]:
        """Write keys or values [batch, heads, width, size] to their places.

        Returns:
            the buffer (the same one where it has room, otherwise a larger one), and what each row of the batch attends
            to, [batch, heads, held, size].
        """
        buffer = self._with_room(buffer, new)
        first, last = int(self._batch_rows[0]), int(self._batch_rows[-1])
        if new.shape[0] == 1:
            end = self._first_place + new.shape[2]
            buffer[first : first + 1, :, self._first_place : end] = new
        else:
            rows, places = self._slots
            buffer[rows, :, places] = new.transpose(0, 2, 1, 3)
        if self._gather is not None:
            return buffer, mx.take(buffer[:, :, : self.plan.held], self._gather, axis=0)
        held = buffer[first : last + 1, :, : self.plan.held]
        return buffer, mx.broadcast_to(held, (new.shape[0], *held.shape[1:]))

    def mask(self, window: int | None, *, as_array: bool) -> mx.array | str | None:
        """The attention mask: bool [batch, 1, width, held], "causal", or None where each token attends to all."""
        all_near = window is None or window >= self.plan.held
        if all_near and len(self.plan.rows) == 1 and not self.apart and not as_array:
            return None if self.plan.width == 1 else "causal"
        if window not in self._masks:
            sees = self.plan.sees_within(window)
            if sees is None and as_array:
                sees = np.ones((len(self.plan.rows), self.plan.width, self.plan.held), dtype=bool)
            if sees is not None and self.apart:
                sees = sees[self._new][:, None]
            self._masks[window] = None if sees is None else mx.array(sees[:, None])
        return self._masks[window]

    def move(self, row: int, sources: Sequence[int], target: int) -> None:
        """Move the entries at `sources` to `target`, `target` + 1 and so on, in every layer."""
        places = mx.array(list(sources))
        for layer in self.layers:
            for buffer in layer.buffers:
                buffer[row, :, target : target + len(sources)] = buffer[row][:, places]

    def adopt(self, row: int, source: int, length: int) -> None:
        """Copy the first `length` entries of row `source`, in every layer; zeros beyond, as after `clear`."""
        for layer in self.layers:
            for buffer in layer.buffers:
                if row != source:
                    buffer[row, :, :length] = buffer[source, :, :length]
                buffer[row, :, length : self._written[row]] = 0
        self._written[row] = length
        mx.eval(self.arrays)

    def clear(self, row: int) -> None:
        """Overwrite a row with zeros.

        A mask hides old keys and values, but 0 * NaN is NaN: a text with NaNs would spoil the next one in its row.
        """
        for layer in self.layers:
            for buffer in layer.buffers:
                buffer[row, :, : self._written[row]] = 0
        self._written[row] = 0
        mx.eval(self.arrays)  # the next pass may run in another thread, and MLX computes lazy arrays in their own only

    @property
    def arrays(self) -> list[mx.array]:
        """All keys and values."""
        return [buffer for layer in self.layers for buffer in layer.buffers]

    def _with_room(self, buffer: mx.array | None, new: mx.array) -> mx.array:
        held = 0 if buffer is None else buffer.shape[2]
        if buffer is not None and held >= self._room:
            return buffer
        more = -(-(self._room - held) // STEP) * STEP
        zeros = mx.zeros((self.rows, new.shape[1], more, new.shape[3]), dtype=new.dtype)
        return zeros if buffer is None else mx.concatenate([buffer, zeros], axis=2)


class MlxLayer:
    """The cache of one layer."""

    def __init__(self, cache: MlxCache, window: int | None) -> None:
        self._cache = cache
        self._window = window
        self._keys: mx.array | None = None
        self._values: mx.array | None = None

    @property
    def offset(self) -> int | mx.array:
        """The position of the first new token; int32 [batch] where the batch has several rows."""
        return self._cache.offset

    @property
    def buffers(self) -> list[mx.array]:
        return [buffer for buffer in (self._keys, self._values) if buffer is not None]

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        self._keys, held_keys = self._cache.write(self._keys, keys)
        self._values, held_values = self._cache.write(self._values, values)
        return held_keys, held_values

    def make_mask(
        self, width: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | str | None:
        return self._cache.mask(window_size or self._window, as_array=return_array)
