"""Attention over long new texts, by PyTorch's own kernels: rows one by one, each as long as it is."""

from __future__ import annotations

import torch
from torch.nn.attention.bias import causal_lower_right

functional = torch.nn.functional


def attend_to_text(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The newest tokens of one text see all before them. On a GPU it is flash attention, which makes no mask.

    Args:
        queries: [new tokens, heads, size].
        keys, values: [tokens, key heads, size], of the whole text.

    Returns:
        [new tokens, heads, size].
    """
    count, held = len(queries), len(keys)
    mask = None if count in (1, held) else causal_lower_right(count, held)
    output = functional.scaled_dot_product_attention(
        queries.transpose(0, 1)[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=count == held and count > 1,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return output[0].transpose(0, 1)
