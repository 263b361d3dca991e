"""The ragged cache behind transformers' cache interface, and the attention that reads it."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, Cache

from outrider.runtimes.torch.ragged_cache import RaggedCache, TorchPlan

ATTENTION = "outrider_ragged"


class TransformersCache(RaggedCache, Cache):  # type: ignore[misc]
    """A RaggedCache behind the interface of transformers."""

    def __init__(self, rows: int, capacity: int) -> None:
        RaggedCache.__init__(self, rows, capacity)
        Cache.__init__(self, layers=[])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self.write(layer_idx, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0 if self.plan is None else max(self.plan.starts)


def ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    outrider_plan: TorchPlan | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention under a plan.

    Query heads that share a key head follow one another as if they were more queries: keys and values are read in
    place, not repeated for every query head (grouped-query attention).

    Args:
        query: [batch, heads, width, size]; key and value: [batch, key heads, held, size].

    Returns:
        [batch, width, heads, size], and no weights.
    """
    assert outrider_plan is not None
    batch, heads, width, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    folded = query.reshape(batch, key_heads, groups * width, size)
    mask = outrider_plan.mask(query, groups, sliding_window)
    output = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    return output.reshape(batch, heads, width, -1).transpose(1, 2), None


AttentionInterface.register(ATTENTION, ragged_attention)
