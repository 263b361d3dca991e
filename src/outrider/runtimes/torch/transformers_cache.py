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


# Attention arguments that do not change the scores here, and why.
HARMLESS = {
    "is_causal",  # the plan's mask is causal, and models that are not do not pass the trial
    "position_ids",  # rotations are done before; flash attention finds packed texts by them
    "cache_position",  # the same
    "cu_seq_lens_q",  # where packed texts begin, for flash attention
    "cu_seq_lens_k",
    "max_length_q",
    "max_length_k",
    "use_cache",  # what comes back from the whole model
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "return_dict",
    "logits_to_keep",
    "num_items_in_batch",  # of the loss
    "deterministic",  # of the backward pass
}


def ragged_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    outrider_plan: TorchPlan | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Scaled dot-product attention under a plan.

    Query heads that share a key head follow one another as if they were more queries: keys and values are read in
    place, not repeated for every query head (grouped-query attention).

    Args:
        query: [batch, heads, width, size]; key and value: [batch, key heads, held, size].
        s_aux: attention sinks [heads]: the score of a key that every query sees and that has no value.

    Returns:
        [batch, width, heads, size], and no weights.

    Raises:
        NotImplementedError: the model asks for something that this function does not compute. Such a model does not
            share passes (trial.py).
    """
    unknown = [name for name, argument in others.items() if argument is not None and name not in HARMLESS]
    unknown += ["dropout"] * bool(dropout) + ["attention_mask"] * (attention_mask is not None)
    if unknown:
        raise NotImplementedError(f"attention with {', '.join(unknown)} is not computed here")
    if outrider_plan is None:
        raise NotImplementedError("the model's layers do not pass their keyword arguments on")
    batch, heads, width, size = query.shape
    key_heads = key.shape[1]
    groups = heads // key_heads
    folded = query.reshape(batch, key_heads, groups * width, size)
    mask = outrider_plan.mask(query, groups, sliding_window)
    if s_aux is None:
        output = torch.nn.functional.scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=scaling)
    else:
        sinks = s_aux.reshape(key_heads, groups, 1).expand(-1, -1, width).reshape(1, key_heads, -1, 1)
        output = _with_sinks(folded, key, value, mask, size**-0.5 if scaling is None else scaling, sinks)
    return output.reshape(batch, heads, width, -1).transpose(1, 2).contiguous(), None


def _with_sinks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float,
    sinks: torch.Tensor,
) -> torch.Tensor:
    """Attention in which a part of each query's weight [.., heads, queries, 1] goes to nothing."""
    scores = query @ key.transpose(2, 3) * scaling
    if mask is not None:
        scores = scores + mask
    scores = torch.cat([scores, sinks.to(scores.dtype).expand(*scores.shape[:-1], 1)], dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)[..., :-1]
    return weights.to(value.dtype) @ value


AttentionInterface.register(ATTENTION, ragged_attention)
