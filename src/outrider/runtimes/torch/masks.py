"""What masks a model of transformers asks for, so that one that Outrider's attention does not know is not left out.

A model makes its masks by functions of two positions (transformers' masking_utils). Under an attention function of ours
nothing asks for the mask, and a few tokens do not show a mask that differs only far back. So a model is run once, its
mask functions are kept, and they are compared with the causal mask and its windows over many positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

KEPT = "outrider_masks_kept"  # an implementation of attention that keeps the mask functions
QUERIES = (0, 1, 2, 3, 7, 15, 16, 31, 33, 63, 100, 127, 128, 255, 257, 511, 513, 1000, 1023, 2047, 2048, 4000, 4095)
KEYS = 4096

MaskFunction = Callable[[Any, Any, torch.Tensor, torch.Tensor], torch.Tensor]
_kept: ContextVar[list[MaskFunction] | None] = ContextVar("kept", default=None)


def _keep_mask(*args: Any, mask_function: MaskFunction, **others: Any) -> Any:
    kept = _kept.get()
    if kept is not None:
        kept.append(mask_function)
    return sdpa_mask(*args, mask_function=mask_function, **others)


AttentionInterface.register(KEPT, sdpa_attention_forward)
AttentionMaskInterface.register(KEPT, _keep_mask)


def masks_are_known(twin: Any, run: Callable[[], object], windows: Iterable[int]) -> bool:
    """Whether all masks that a model makes are causal, alone or within one of these windows.

    Args:
        twin: of a model (twins.py).
        run: runs it on a few tokens.
        windows: in tokens.
    """
    config = twin.config.get_text_config(decoder=True)
    own, kept = config._attn_implementation, list[MaskFunction]()
    token = _kept.set(kept)
    config._attn_implementation = KEPT
    try:
        run()
    finally:
        config._attn_implementation = own
        _kept.reset(token)
    return all(_is_known(mask, windows) for mask in kept)


def _is_known(mask: MaskFunction, windows: Iterable[int]) -> bool:
    first = torch.tensor(0)
    queries, keys = torch.tensor(QUERIES)[:, None], torch.arange(KEYS)[None]
    try:
        seen = torch.as_tensor(mask(first, first, queries, keys)).expand(len(QUERIES), KEYS)
    except Exception:  # of a function that knows no positions beyond the text
        return False
    causal = keys <= queries
    windows = (0, *windows)  # Qwen2-MoE makes a mask of no tokens where it has no window, and reads no layer by it
    return any(torch.equal(seen, each) for each in (causal, *(causal & (keys > queries - size) for size in windows)))
