"""A key-value cache of rows of different lengths, on PyTorch.

Each row owns a fixed stretch of memory. New keys and values are written at the row's own next positions, a mask hides
what does not belong to a query's past, and rolling back only lowers a length: nothing is moved, padded or allocated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch

from outrider.models.plan import Plan

PAIRS_OF_A_CALL = 10_000
NUMPY_TYPES = {torch.float32: np.float32, torch.float16: np.float16}


class Blocks(NamedTuple):
    """In what numbers attention takes keys and queries.

    Kernels compute what is left over beside full blocks in another order, so that a token's result depends on how many
    tokens stand beside it. Where blocks are filled up, with masked keys and queries that nobody reads, it does not.
    """

    keys: int = 1
    queries: int = 1

    def read_to(self, end: int) -> int:
        """How far attention reads a row that holds `end` tokens."""
        return -(-end // self.keys) * self.keys

    def missing_queries(self, count: int) -> int:
        """How many queries fill the last block."""
        return -count % self.queries


@dataclass
class TorchPlan(Plan):
    """A plan with its masks and indices as tensors, each made once per pass."""

    blocks: Blocks = field(default_factory=Blocks)
    _masks: dict[tuple[Any, ...], torch.Tensor] = field(default_factory=dict)

    def mask(self, like: torch.Tensor, groups: int, window: int | None) -> torch.Tensor | None:
        """Additive mask [batch, 1, groups * width, held] in the precision of `like`; built once per pass.

        Args:
            groups: how many query heads share a key head; their queries stand behind one another.
            window: how far back a token sees, itself included; None is all the way.
        """
        if (groups, window) not in self._masks:
            sees = self.sees_within(window)
            if sees is None and self.blocks == Blocks():
                return None
            if sees is None:
                sees = np.ones((len(self.rows), self.width, self.held), dtype=bool)
            self._masks[groups, window] = _additive(sees, like, groups, self.blocks)
        return self._masks[groups, window]

    @property
    def shared_attention(self) -> bool:
        """Whether one attention call for all rows, padded, is cheaper than one for each.

        A call costs what looking at some ten thousand pairs of tokens costs.
        """
        pairs = sum(count * (start + count) for start, count in zip(self.starts, self.counts, strict=True))
        padded = len(self.rows) * self.width * self.held
        return len(self.rows) > 1 and self.adjacent and padded - pairs < PAIRS_OF_A_CALL * len(self.rows)

    @cached_property
    def slots(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and place in the row of every new token, the rows one after the other; int64 [tokens] each."""
        rows = np.repeat(self.rows, self.counts)
        places = np.concatenate(
            [np.arange(start, start + count) for start, count in zip(self.starts, self.counts, strict=True)]
        )
        return torch.from_numpy(rows), torch.from_numpy(places)

    @cached_property
    def padded_index(self) -> torch.Tensor | None:
        """Of every place [rows * width] of a padded batch, which new token stands there, the first where none does;
        None where nothing is padded."""
        if len(set(self.counts)) == 1:
            return None
        firsts = np.cumsum((0, *self.counts[:-1]))
        columns = np.arange(self.width)[None, :]
        within = columns < np.array(self.counts)[:, None]
        return torch.from_numpy(np.where(within, firsts[:, None] + columns, 0).ravel())

    @cached_property
    def token_index(self) -> torch.Tensor | None:
        """Of every new token, where it stands in a padded batch; None where nothing is padded."""
        if len(set(self.counts)) == 1:
            return None
        places = [row * self.width + np.arange(count) for row, count in enumerate(self.counts)]
        return torch.from_numpy(np.concatenate(places))

    def row_mask(self, batch: int, like: torch.Tensor, groups: int) -> torch.Tensor | None:
        """The mask [1, 1, groups * count, held] of one row alone, whose queries are not padded."""
        count = self.counts[batch]
        end = self.starts[batch] + count
        sees_all = self.sees is None or (count == 1 and bool(self.sees[batch, 0, :end].all()))
        if sees_all and self.blocks == Blocks():
            return None
        if ("row", batch) not in self._masks:
            sees = np.ones((1, count, end), dtype=bool) if self.sees is None else self.sees[[batch], :count, :end]
            self._masks["row", batch] = _additive(sees, like, groups, self.blocks)
        return self._masks["row", batch]


def _additive(sees: np.ndarray[Any, Any], like: torch.Tensor, groups: int, blocks: Blocks) -> torch.Tensor:
    """0 where a query sees and the lowest number where not: [batch, 1, groups * queries, held], in blocks."""
    end, queries = sees.shape[-1], groups * sees.shape[1]
    if beyond := blocks.read_to(end) - end:
        sees = np.pad(sees, ((0, 0), (0, 0), (0, beyond)))
    hidden = torch.from_numpy(~sees).to(like.device)
    additive = torch.zeros(hidden.shape, dtype=like.dtype, device=like.device)
    additive.masked_fill_(hidden, torch.finfo(like.dtype).min)
    additive = additive.repeat(1, groups, 1)
    if missing := blocks.missing_queries(queries):
        additive = torch.nn.functional.pad(additive, (0, 0, 0, missing))
    return additive[:, None]


class RaggedCache:
    """Keys and values of all layers, [rows, heads, capacity, size] each, allocated at a layer's first use.

    Args:
        blocks: in which attention reads it.
    """

    def __init__(self, rows: int, capacity: int, blocks: Blocks = Blocks()) -> None:  # noqa: B008 (it is a constant)
        self.rows = rows
        self.capacity = blocks.read_to(capacity)
        self.blocks = blocks
        self.plan: TorchPlan | None = None
        self._written = [0] * rows  # how far each row was ever written since it was cleared
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []

    def write(self, layer: int, new_keys: torch.Tensor, new_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [batch, heads, width, size] where the plan says; return what the rows now hold."""
        plan = self.plan
        assert plan is not None
        while len(self._keys) <= layer:
            self._keys.append(self._allocate(new_keys))
            self._values.append(self._allocate(new_values))
        return (
            self._write(self._keys[layer], new_keys, plan),
            self._write(self._values[layer], new_values, plan),
        )

    def append_all(
        self, layer: int, new_keys: torch.Tensor, new_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new [tokens, heads, size] of adjacent rows; return what they hold, [rows, heads, held, size]."""
        plan = self.plan
        assert plan is not None
        if len(self._keys) <= layer:
            self._keys.append(self._allocate(new_keys.transpose(0, 1)[None]))
            self._values.append(self._allocate(new_values.transpose(0, 1)[None]))
        rows, places = plan.slots
        held = []
        for buffer, new in ((self._keys[layer], new_keys), (self._values[layer], new_values)):
            buffer[rows, :, places] = new
            held.append(buffer[plan.rows[0] : plan.rows[0] + len(plan.rows), :, : plan.blocks.read_to(plan.held)])
        return held[0], held[1]

    def append(
        self, layer: int, batch: int, new_keys: torch.Tensor, new_values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new [heads, tokens, size] of one row of the plan; return all it holds, [1, heads, held, size]."""
        plan = self.plan
        assert plan is not None
        if len(self._keys) <= layer:
            self._keys.append(self._allocate(new_keys[None]))
            self._values.append(self._allocate(new_values[None]))
        row, start = plan.rows[batch], plan.starts[batch]
        end = start + plan.counts[batch]
        self._keys[layer][row, :, start:end] = new_keys
        self._values[layer][row, :, start:end] = new_values
        held = plan.blocks.read_to(end)
        return self._keys[layer][row : row + 1, :, :held], self._values[layer][row : row + 1, :, :held]

    @torch.inference_mode()
    def move(self, row: int, sources: Sequence[int], target: int) -> None:
        """Put the entries at `sources` one behind the other from `target` on, in every layer."""
        for buffer in (*self._keys, *self._values):
            buffer[row, :, target : target + len(sources)] = buffer[row][:, list(sources)]

    def begin(self, plan: TorchPlan) -> None:
        """The next writes follow this plan."""
        self.plan = plan
        for row, start, count in zip(plan.rows, plan.starts, plan.counts, strict=True):
            self._written[row] = max(self._written[row], start + count)

    @torch.inference_mode()
    def clear(self, row: int) -> None:
        """Overwrite a row with zeros.

        A mask hides its text from the next one, but if this one broke the model, 0 * NaN would still be NaN.
        """
        for buffer in (*self._keys, *self._values):
            buffer[row, :, : self._written[row]] = 0
        self._written[row] = 0

    def finish(self) -> None:
        """Wait for what a GPU still computes."""
        if self._keys and self._keys[0].is_cuda:
            torch.cuda.synchronize(self._keys[0].device)

    def _allocate(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self.rows, like.shape[1], self.capacity, like.shape[3])
        if like.device.type == "cpu" and like.dtype in NUMPY_TYPES:
            # Zeros that the operating system hands out page by page, when a row grows into them.
            return torch.from_numpy(np.zeros(shape, dtype=NUMPY_TYPES[like.dtype]))
        return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def _write(self, buffer: torch.Tensor, new: torch.Tensor, plan: TorchPlan) -> torch.Tensor:
        for batch, (row, start, count) in enumerate(zip(plan.rows, plan.starts, plan.counts, strict=True)):
            end = start + count
            buffer[row, :, start:end] = new[batch, :, :count]
        if plan.adjacent:
            return buffer[plan.rows[0] : plan.rows[0] + len(plan.rows), :, : plan.held]
        return buffer[list(plan.rows), :, : plan.held]
