"""The session of a model on PyTorch: book-keeping, cache, one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from outrider.runtimes.base import LedgerSession, Parents, wanted_counts
from outrider.runtimes.torch.ragged_cache import RaggedCache, TorchPlan


class Forward(Protocol):
    """What a session asks of a model: one pass over the cache's present plan.

    Attributes:
        bytes_per_token: of keys and values in all layers.
    """

    @property
    def bytes_per_token(self) -> int: ...

    def new_cache(self, rows: int, capacity: int) -> RaggedCache: ...

    def forward(self, cache: Any, tokens: Sequence[Sequence[int]], wanted: Sequence[int]) -> torch.Tensor: ...


class TorchSession(LedgerSession):
    """A ragged key-value cache, and the model that fills it."""

    def __init__(self, model: Forward, rows: int, capacity: int) -> None:
        self._model = model
        super().__init__(rows, capacity)
        self._cache = model.new_cache(rows, capacity)

    def extend(
        self,
        rows: Sequence[int],
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
        wanted: Sequence[int] | None = None,
    ) -> torch.Tensor:
        self._ledger.extend(rows, tokens, parents)
        plan = TorchPlan.of(self._ledger, rows, [len(new) for new in tokens])
        plan.blocks = self._cache.blocks
        self._cache.begin(plan)
        return self._model.forward(self._cache, tokens, wanted_counts(tokens, wanted))

    def finish(self) -> None:
        """Wait for what a GPU still computes."""
        self._cache.finish()

    def keep(self, row: int, path: Sequence[int]) -> None:
        kept = self._ledger.length(row)
        self._ledger.keep(row, path)
        if any(node != index for index, node in enumerate(path)):
            self._cache.move(row, [kept + node for node in path], kept)

    def release(self, row: int) -> None:
        self._cache.clear(row)
        self._ledger.truncate(row, 0)
