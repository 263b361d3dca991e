"""Attention over long new texts, by PyTorch's own kernels: rows one by one, each as long as it is."""

from __future__ import annotations

import torch

functional = torch.nn.functional


def attend_to_text(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int | None = None
) -> torch.Tensor:
    """The newest tokens of one text see all before them. On a GPU it is flash attention, which makes no mask.

    Args:
        queries: [new tokens, heads, size].
        keys, values: [tokens, key heads, size], of the whole text.
        window: how many tokens back a token sees, itself included. Where the text is longer there is a mask, over what
            any of the new tokens sees.

    Returns:
        [new tokens, heads, size].
    """
    count, held = len(queries), len(keys)
    if window is not None and held > window:
        first = max(held - count - window + 1, 0)
        return _attend_within(queries, keys[first:], values[first:], window)
    if count in (1, held):
        return _attend(queries, keys, values, None, is_causal=count > 1)
    from torch.nn.attention.bias import causal_lower_right  # brings torch.compile along, which takes seconds to import

    return _attend(queries, keys, values, causal_lower_right(count, held), is_causal=False)


def _attend_within(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, window: int) -> torch.Tensor:
    count, held = len(queries), len(keys)
    position = torch.arange(held - count, held, device=queries.device)[:, None]
    back = position - torch.arange(held, device=queries.device)
    return _attend(queries, keys, values, (back >= 0) & (back < window), is_causal=False)


def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, is_causal: bool
) -> torch.Tensor:
    output = functional.scaled_dot_product_attention(
        queries.transpose(0, 1)[None],
        keys.transpose(0, 1)[None],
        values.transpose(0, 1)[None],
        attn_mask=mask,
        is_causal=is_causal,
        enable_gqa=queries.shape[1] != keys.shape[1],
    )
    return output[0].transpose(0, 1)
