"""The session of a model on PyTorch: ledger, KV cache and one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from outrider.runtimes.base import Pass, Scored, Traits
from outrider.runtimes.ledger import RaggedSession, scored
from outrider.runtimes.torch.ragged_cache import RaggedCache, TorchPlan

Hidden = tuple[torch.Tensor, ...]


class Forward(Protocol):
    """What a session asks of a model.

    Attributes:
        bytes_per_token: bytes of keys and values of all layers.
    """

    @property
    def bytes_per_token(self) -> int: ...

    def new_cache(self, rows: int, capacity: int) -> RaggedCache: ...

    def forward(
        self, cache: Any, tokens: Sequence[Sequence[int]], wanted: Sequence[int], layers: Sequence[int]
    ) -> tuple[torch.Tensor, Hidden]:
        """Run the cache's present plan.

        Returns:
            logits [sum of wanted, vocab] of the last `wanted` tokens of each row, and for each of `layers` the hidden
            states [fed tokens, hidden size].
        """


class TorchSession(RaggedSession[RaggedCache]):
    """A ragged KV cache and the model that fills it."""

    def __init__(self, model: Forward, rows: int, capacity: int, name: str, traits: Traits) -> None:
        self._model = model
        super().__init__(rows, capacity, name, traits)
        self._cache = model.new_cache(rows, capacity)

    def extend(self, work: Pass) -> Scored:
        self._append(work)
        plan = TorchPlan.of(self._ledger, work.rows, [len(new) for new in work.tokens])
        plan.blocks = self._cache.blocks
        self._cache.begin(plan)
        logits, hidden = self._model.forward(self._cache, work.tokens, work.wanted_counts, work.features.hidden)
        return scored(work, logits, hidden, self._cache.finish)
