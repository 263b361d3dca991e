"""A KV cache of rows of different lengths, on PyTorch.

Each row owns a fixed range of memory. New keys and values are written at the row's own next positions, a mask hides
what is not in a query's past, and rolling back only lowers a length: nothing is moved, padded or allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from outrider.runtimes.layout import Plan
from outrider.runtimes.torch.placement import sent, wait_for

# A cost model of attention, measured in bfloat16 and float32 with 1 to 8 rows of 50 to 800 tokens. The unit is one
# query over one cached token; a call costs CALL units, and each cached token READ more.
CALL = 2250
READ = 3
FEW = 4  # entries: up to so many are moved faster one by one
SHORT = 96  # new tokens of a row: up to so many, attention is cut at the end of every block of keys
PIECE = 96  # tokens: attention over more new tokens is cut into such pieces, so that few masked keys are read
ZEROS_IN_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}


class Blocks(NamedTuple):
    """The block sizes in which attention takes keys and queries, for equal bits in any pass.

    Attention kernels sum in another order where there are more keys, masked ones included, or very few queries. So a
    token's bits depend on the tokens beside it. They do not if each token reads to the end of its own block of keys,
    and queries are padded to whole blocks.
    """

    keys: int = 1
    queries: int = 1

    def pieces(self, start: int, count: int) -> list[range]:
        """The `count` new tokens of a row that holds `start`, cut at the ends of blocks, or into pieces of PIECE."""
        step = PIECE if count > SHORT else self.keys
        if step == 1:
            return [range(count)]
        cuts = [*range(-start % step, count, step), count]
        return [range(first, end) for first, end in zip([0, *cuts], cuts, strict=False) if end > first]

    def read_to(self, end: int) -> int:
        """How many keys attention reads in a row that holds `end` tokens."""
        return -(-end // self.keys) * self.keys

    def missing_queries(self, count: int) -> int:
        """How many queries pad the last block."""
        return -count % self.queries


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one attention call computes: consecutive rows of the batch, or a piece of one row.

    Attributes:
        rows: their places in the batch.
        first: how many new tokens of the row come before the piece.
        tokens: the places of their new tokens in the flat batch.
        width, held: the most new tokens of a row, and the most tokens that a row holds after the pass.
        padded_index: for each place [rows * width] of the padded batch, the token that goes there (the first one as
            padding); None where nothing is padded.
        token_index: for each token, its place in the padded batch; None where nothing is padded.
    """

    rows: slice
    first: int
    tokens: slice
    width: int
    held: int
    padded_index: torch.Tensor | None
    token_index: torch.Tensor | None

    @property
    def size(self) -> int:
        """How many rows."""
        return int(self.rows.stop - self.rows.start)


@dataclass
class TorchPlan(Plan):
    """A plan with masks and indices as tensors, each made once per pass."""

    blocks: Blocks = field(default_factory=Blocks)
    _masks: dict[tuple[Any, ...], torch.Tensor] = field(default_factory=dict)
    _slots_there: dict[torch.device, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = field(
        default_factory=dict
    )

    _rows_there: dict[torch.device, torch.Tensor] = field(default_factory=dict)

    def mask(self, like: torch.Tensor, groups: int, window: int | None) -> torch.Tensor | None:
        """Additive mask [batch, 1, groups * width, held] in the precision of `like`; built once per pass.

        Args:
            groups: how many query heads share a key head; their queries follow one another.
            window: how many tokens back a token sees, itself included; None is no limit.
        """
        key = (groups, window, like.dtype, like.device)  # a model may lie on several devices
        if key not in self._masks:
            sees = self.sees_within(window)
            if sees is None and self.blocks == Blocks():
                return None
            if sees is None:
                sees = np.ones((len(self.rows), self.width, self.held), dtype=bool)
            self._masks[key] = _additive(sees, like, groups, self.blocks)
        return self._masks[key]

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The attention calls of the pass: the cheapest partition into rows that share a call, padded to its longest.

        Rows of one call are neighbours in the cache.
        """
        ends = [start + count for start, count in zip(self.starts, self.counts, strict=True)]
        cheapest, first_of_last = [0.0], [0]
        for last in range(1, len(self.rows) + 1):
            options = []
            width = held = 0
            for first in range(last - 1, -1, -1):
                if first + 1 < last and self.rows[first] + 1 != self.rows[first + 1]:
                    break
                width, held = max(width, self.counts[first]), max(held, ends[first])
                options.append((cheapest[first] + CALL + (last - first) * held * (READ + width), first))
            cost, first = min(options)
            cheapest.append(cost)
            first_of_last.append(first)
        found = []
        last = len(self.rows)
        while last:
            first = first_of_last[last]
            found += self._alone(first) if last - first == 1 else [self._stretch(first, last, max(ends[first:last]))]
            last = first
        return tuple(sorted(found, key=lambda stretch: stretch.tokens.start))

    def _alone(self, row: int) -> list[Stretch]:
        """The calls of a single row, in pieces.

        A draft is cut so that each token gets the bits that it gets alone; a long prompt, because in one call half of
        all keys would be masked.
        """
        start, count, before = self.starts[row], self.counts[row], sum(self.counts[:row])
        found = []
        for piece in self.blocks.pieces(start, count):
            tokens = slice(before + piece.start, before + piece.stop)
            # No token sees a later one, in a tree either.
            held = start + piece.stop
            found.append(Stretch(slice(row, row + 1), piece.start, tokens, len(piece), held, None, None))
        return found

    def _stretch(self, first: int, last: int, held: int) -> Stretch:
        counts = self.counts[first:last]
        before, width = sum(self.counts[:first]), max(counts)
        padded_index = token_index = None
        if len(set(counts)) > 1:
            within = np.arange(width)[None, :] < np.array(counts)[:, None]
            firsts = np.cumsum((0, *counts[:-1]))
            padded_index = torch.from_numpy(np.where(within, firsts[:, None] + np.arange(width)[None, :], 0).ravel())
            token_index = torch.from_numpy(np.flatnonzero(within))
        tokens = slice(before, before + sum(counts))
        return Stretch(slice(first, last), 0, tokens, width, held, padded_index, token_index)

    def mask_of(self, stretch: Stretch, like: torch.Tensor, groups: int) -> torch.Tensor | None:
        """As `mask`, for one attention call."""
        key = ("stretch", stretch.rows.start, stretch.first, groups, like.dtype, like.device)
        if key not in self._masks:
            if self.sees is None:
                sees = np.ones((stretch.size, stretch.width, stretch.held), dtype=bool)
            else:
                sees = self.sees[stretch.rows, stretch.first : stretch.first + stretch.width, : stretch.held]
            if self.blocks == Blocks() and sees.all():
                return None
            self._masks[key] = _additive(sees, like, groups, self.blocks)
        return self._masks[key]

    @cached_property
    def slots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The row of each new token and its place in the row, the rows one after the other; int64 [tokens] each."""
        rows = np.repeat(self.rows, self.counts)
        places = np.concatenate(
            [np.arange(start, start + count) for start, count in zip(self.starts, self.counts, strict=True)]
        )
        return torch.from_numpy(rows), torch.from_numpy(places)

    def rows_on(self, device: torch.device) -> torch.Tensor:
        """The rows on a device, copied there once per pass."""
        if device not in self._rows_there:
            self._rows_there[device] = sent(torch.tensor(self.rows), device)
        return self._rows_there[device]

    def slots_on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The slots on a device, copied there once per pass; and which places of the padded batch [batch * width] hold
        tokens (None where all do).
        """
        if device not in self._slots_there:
            held = np.arange(self.width)[None, :] < np.array(self.counts)[:, None]
            tokens = None if held.all() else sent(torch.from_numpy(np.flatnonzero(held)), device)
            rows, places = self.slots
            self._slots_there[device] = sent(rows, device), sent(places, device), tokens
        return self._slots_there[device]


def _additive(sees: np.ndarray[Any, Any], like: torch.Tensor, groups: int, blocks: Blocks) -> torch.Tensor:
    """The mask as numbers, 0 or the lowest one: [batch, 1, groups * queries, held], padded to whole blocks."""
    end, queries = sees.shape[-1], groups * sees.shape[1]
    if beyond := blocks.read_to(end) - end:
        sees = np.pad(sees, ((0, 0), (0, 0), (0, beyond)))
    hidden = sent(torch.from_numpy(~sees), like.device)
    additive = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    additive.masked_fill_(hidden, torch.finfo(like.dtype).min)
    additive = additive.repeat(1, groups, 1)
    if missing := blocks.missing_queries(queries):
        additive = torch.nn.functional.pad(additive, (0, 0, 0, missing))
    return additive[:, None]


def write_row_by_row(buffer: torch.Tensor, new: torch.Tensor, plan: TorchPlan) -> None:
    """Copy keys or values [batch, heads, width, size] to their places, one copy per row."""
    for batch, (row, start, count) in enumerate(zip(plan.rows, plan.starts, plan.counts, strict=True)):
        buffer[row, :, start : start + count] = new[batch, :, :count]


def write_at_once(buffer: torch.Tensor, new: torch.Tensor, plan: TorchPlan) -> None:
    """The same in one kernel for all rows: on a GPU, launching a copy takes longer than the copy."""
    rows, places, held = plan.slots_on(buffer.device)
    tokens = new.transpose(1, 2).flatten(0, 1)  # [batch * width, heads, size]
    buffer[rows, :, places] = tokens if held is None else tokens[held]


class RaggedCache:
    """Keys and values of all layers, [rows, heads, capacity, size] each, allocated at a layer's first use.

    Args:
        blocks: the block sizes in which attention reads it.
    """

    def __init__(self, rows: int, capacity: int, blocks: Blocks = Blocks()) -> None:  # noqa: B008 (it is a constant)
        self.rows = rows
        self.capacity = blocks.read_to(capacity)
        self.blocks = blocks
        self.plan: TorchPlan | None = None
        self._written = [0] * rows  # tokens written to each row since it was cleared, rolled back ones included
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    def write(self, layer: int, new_keys: torch.Tensor, new_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [batch, heads, width, size] to their places; return what the rows now hold."""
        plan = self.plan
        assert plan is not None
        while len(self._keys) <= layer:
            self._keys.append(self._allocate(new_keys))
            self._values.append(self._allocate(new_values))
        return (
            self._write(self._keys[layer], new_keys, plan),
            self._write(self._values[layer], new_values, plan),
        )

    def append(self, layer: int, new_keys: torch.Tensor, new_values: torch.Tensor) -> None:
        """Write the flat batch [tokens, heads, size] to its places."""
        plan = self.plan
        assert plan is not None
        if len(self._keys) <= layer:
            self._keys.append(self._allocate(new_keys.transpose(0, 1)[None]))
            self._values.append(self._allocate(new_values.transpose(0, 1)[None]))
        for buffer, new in ((self._keys[layer], new_keys), (self._values[layer], new_values)):
            if len(plan.rows) == 1:
                start = plan.starts[0]
                buffer[plan.rows[0], :, start : start + len(new)] = new.transpose(0, 1)
            else:
                rows, places = plan.slots
                buffer[rows, :, places] = new

    def held(self, layer: int, stretch: Stretch) -> tuple[torch.Tensor, torch.Tensor]:
        """The keys and values that one attention call reads, [rows, heads, held, size] each."""
        plan = self.plan
        assert plan is not None
        first, end = plan.rows[stretch.rows.start], plan.blocks.read_to(stretch.held)
        rows = slice(first, first + stretch.size)
        return self._keys[layer][rows, :, :end], self._values[layer][rows, :, :end]

    @torch.inference_mode()
    def move(self, row: int, sources: Sequence[int], target: int) -> None:
        """Move the entries at `sources` to `target`, `target` + 1 and so on, in every layer."""
        moved = [(source, place) for place, source in enumerate(sources, start=target) if source != place]
        for buffer in (*self._keys, *self._values):
            held = buffer[row]
            if len(moved) > FEW:
                held[:, target : target + len(sources)] = held[:, list(sources)]
                continue
            for source, place in moved:  # a target is never after its source: nothing is overwritten too early
                held[:, place] = held[:, source]

    def begin(self, plan: TorchPlan) -> None:
        """The next pass follows this plan."""
        self.plan = plan
        for row, start, count in zip(plan.rows, plan.starts, plan.counts, strict=True):
            self._written[row] = max(self._written[row], start + count)

    @torch.inference_mode()
    def adopt(self, row: int, source: int, length: int) -> None:
        """Copy the first `length` entries of row `source`, in every layer; zeros beyond, as after `clear`."""
        for buffer in (*self._keys, *self._values):
            if row != source:
                buffer[row, :, :length] = buffer[source, :, :length]
            buffer[row, :, length : self._written[row]] = 0
        self._written[row] = length

    @torch.inference_mode()
    def clear(self, row: int) -> None:
        """Overwrite a row with zeros.

        A mask hides old keys and values, but 0 * NaN is NaN: a text with NaNs would spoil the next one in its row.
        """
        for buffer in (*self._keys, *self._values):
            buffer[row, :, : self._written[row]] = 0
        self._written[row] = 0

    def finish(self) -> None:
        """Wait until every GPU is done with what was launched so far."""
        for device in {keys.device for keys in self._keys if keys.is_cuda}:
            wait_for(device)

    def _allocate(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self.rows, like.shape[1], self.capacity, like.shape[3])
        if like.device.type == "cpu" and like.dtype in ZEROS_IN_NUMPY:
            # The operating system allocates these zeros page by page, as a row grows.
            return torch.from_numpy(np.zeros(shape, dtype=ZEROS_IN_NUMPY[like.dtype])).view(like.dtype)
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _write(self, buffer: torch.Tensor, new: torch.Tensor, plan: TorchPlan) -> torch.Tensor:
        if buffer.is_cuda and len(plan.rows) > 1:
            write_at_once(buffer, new, plan)
        else:
            write_row_by_row(buffer, new, plan)
        if plan.adjacent:
            return buffer[plan.rows[0] : plan.rows[0] + len(plan.rows), :, : plan.held]
        return buffer[plan.rows_on(buffer.device), :, : plan.held]
