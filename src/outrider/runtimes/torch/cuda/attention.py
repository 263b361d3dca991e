"""Attention of a few new tokens per row over a slotted cache, chains and trees alike.

Nothing here asks the host about data: shapes alone decide what is launched, so that a CUDA graph can hold it.
"""

from __future__ import annotations

import importlib.util
from typing import Protocol

import torch

from outrider.runtimes.torch.cuda.sight import seen_places

functional = torch.nn.functional


class TreeAttention(Protocol):
    """Attention over one layer's cache, which holds the keys and values of the new tokens already."""

    def __call__(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        slots: torch.Tensor,
        bases: torch.Tensor,
        ancestors: torch.Tensor,
        scale: float | None = None,
        oldest: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """A place that no token sees may hold anything, NaN included. A token that sees nothing gets zeros.

        Args:
            queries: [rows, width, heads, size].
            keys: [slots, capacity, key heads, size], of the queries' dtype; query heads that share a key head follow
                one another.
            values: as keys.
            slots: int64 [rows].
            bases: int64 [rows], how many places of the slot are committed.
            ancestors: int64 [rows, width, words], see sight.py.
            scale: of the scores; None is size ** -0.5.
            oldest: int64 [rows, width], the first committed place that a token sees; None is the first of all. With
                a sliding window `windowed` makes it, and the ancestors.

        Returns:
            [rows, width, heads, size].
        """


def reference_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    bases: torch.Tensor,
    ancestors: torch.Tensor,
    scale: float | None = None,
    oldest: torch.Tensor | None = None,
) -> torch.Tensor:
    """By PyTorch's own attention behind a mask; it reads the whole capacity of each slot."""
    rows, width, heads, size = queries.shape
    key_heads = keys.shape[2]
    groups = heads // key_heads
    seen = seen_places(bases, ancestors, keys.shape[1], oldest)
    of_any = seen.any(dim=1)[..., None, None]  # 0 * NaN is NaN: what nobody sees is zeroed, not only masked
    held_keys = keys[slots].masked_fill(~of_any, 0).transpose(1, 2)
    held_values = values[slots].masked_fill(~of_any, 0).transpose(1, 2)
    # Query heads that share a key head stand side by side, as if they were more queries.
    folded = queries.view(rows, width, key_heads, groups, size).permute(0, 2, 3, 1, 4)
    folded = folded.reshape(rows, key_heads, groups * width, size)
    mask = seen.repeat(1, groups, 1)[:, None]
    output = functional.scaled_dot_product_attention(folded, held_keys, held_values, attn_mask=mask, scale=scale)
    output = output.masked_fill(~mask.any(dim=-1, keepdim=True), 0)
    return output.view(rows, key_heads, groups, width, size).permute(0, 3, 1, 2, 4).reshape(rows, width, heads, size)


def attention_for(device: torch.device) -> TreeAttention:
    """The Triton kernel on a CUDA device where Triton is installed, else the reference."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is not None:
        from outrider.runtimes.torch.cuda.kernels import tree_attention

        return tree_attention
    return reference_attention
