"""Compares a model's shared passes with its own forward on a few tokens, before they are used.

A model of transformers may use positions, masks and attention in ways that no flag shows. So its masks are looked at
(masks.py), and ragged rows, a tree and a text longer than its window are read both ways. Where the logits differ by
more than rounding, the model is read text by text over its own cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache

from outrider.runtimes.base import Pass, Traits
from outrider.runtimes.torch.attention import without_cudnn
from outrider.runtimes.torch.masks import masks_are_known
from outrider.runtimes.torch.padded import PaddedForward
from outrider.runtimes.torch.session import TorchSession
from outrider.runtimes.torch.transformers_state import amplifies_rounding
from outrider.runtimes.torch.twins import input_device, twin_of, window_sizes, with_windows

WINDOW = 5  # tokens, to which windows are shortened for the trial
PIECES = [9, 1, 1, 2]  # in which the stem is read over the model's own cache
STEM = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)
FIRST, SECOND, THIRD = 14, 15, 16
TIMES_ROUNDING = 10  # a larger error is more than rounding
LEAST_ROUNDING = 1e-5  # of the largest logit; more in 16 bits
MOST_ROUNDING = {False: 1e-3, True: 0.1}  # of the largest logit, in 32 and in 16 bits


def shares_passes(plain: Any, name: str, traits: Traits) -> PaddedForward | None:
    """A forward pass for rows of different lengths; None where its logits are not the model's own.

    Args:
        plain: a twin of the model with its own attention.
    """
    try:
        two = [token % traits.vocab_size for token in STEM[:2]]
        known = masks_are_known(plain, lambda: _logits(plain, two), window_sizes(plain))
    except Exception:  # in the model's own code, which was not written for this
        known = False
    if not known:
        return None
    for told in (False, True):  # the window, by us
        try:
            found = _tried(plain, name, traits, told)
        except Exception:  # in the model's own code, which was not written for this
            found = None
        if found is not None:
            return found
    return None


def _tried(plain: Any, name: str, traits: Traits, told: bool) -> PaddedForward | None:
    short = with_windows(plain, name, WINDOW)
    if short is None or (told and _window(plain) is None) or (module := twin_of(plain, name)) is None:
        return None
    padded = PaddedForward(module, _window(plain) if told else None)
    if short is plain:
        return padded if _agree(plain, padded, name, traits) else None
    copied = twin_of(short, name)
    if copied is None:
        return None
    return padded if _agree(short, PaddedForward(copied, _window(short) if told else None), name, traits) else None


def _window(module: Any) -> int | None:
    window = getattr(module.config.get_text_config(decoder=True), "sliding_window", None)
    return window if isinstance(window, int) else None


@torch.inference_mode()
def _agree(plain: Any, padded: PaddedForward, name: str, traits: Traits) -> bool:
    stem = [token % traits.vocab_size for token in STEM]
    first, second, third = (token % traits.vocab_size for token in (FIRST, SECOND, THIRD))
    long, other, short = (
        _logits(plain, text) for text in ([*stem, first, third], [*stem, second], [*stem[:2], first, third])
    )
    scale = float(long.abs().max())
    if not all(bool(logits.isfinite().all()) for logits in (long, other, short)):
        return True  # there is nothing to compare; decoding reports such numbers
    sixteen_bits = plain.dtype in (torch.float16, torch.bfloat16)
    # The same tokens in passes of different lengths.
    rounding = _error(other[: len(stem)], long[: len(stem)], sixteen_bits)
    most = MOST_ROUNDING[sixteen_bits] * scale
    if rounding > most:
        return False  # its tokens see those behind them
    least = torch.finfo(plain.dtype).eps if sixteen_bits else LEAST_ROUNDING
    tolerance = TIMES_ROUNDING * max(rounding, least * scale)
    own = _over_its_cache(plain, stem)
    if _error(own, long[: len(stem)], sixteen_bits) > tolerance:
        return False  # its cache forgets what its mask does not hide: its text depends on how it is read
    session = TorchSession(padded, 2, len(stem) + 4, name, traits)
    groups: list[tuple[torch.Tensor, torch.Tensor]] = []

    def read(work: Pass, *expected: torch.Tensor) -> None:
        found = session.extend(work).logits
        groups.extend(zip(found.float().split([len(each) for each in expected]), expected, strict=True))

    read(Pass([0, 1], [stem[:7], stem[:2]], wanted=[7, 2]), long[:7], short[:2])
    session.keep(0, range(7))
    session.keep(1, range(2))
    # A chain in one row, and in the other a tree whose second branch goes on.
    read(
        Pass([0, 1], [stem[7:], [second, first, third]], [range(-1, len(stem) - 8), [-1, -1, 1]], [len(stem) - 7, 2]),
        long[7 : len(stem)],
        short[2:],
    )
    session.keep(0, range(len(stem) - 7))
    read(Pass([0], [[second, first, third]], [[-1, -1, 1]], [3]), other[len(stem) :], long[len(stem) :])
    if any(not _error(found, expected, sixteen_bits) <= tolerance for found, expected in groups):  # also a NaN
        return False
    return not amplifies_rounding(plain, stem, most)  # it was right by luck


def _over_its_cache(plain: Any, text: Sequence[int]) -> torch.Tensor:
    """Logits [tokens, vocab] of a text read in pieces, as `generate` does."""
    cache, ids = DynamicCache(config=plain.config), torch.tensor([list(text)], device=input_device(plain))
    with without_cudnn():
        pieces = [
            plain(piece, past_key_values=cache, use_cache=True).logits[0] for piece in torch.split(ids, PIECES, dim=1)
        ]
    return torch.cat(pieces).float()


def _error(found: torch.Tensor, expected: torch.Tensor, sixteen_bits: bool) -> float:
    """The largest error of logits [tokens, vocab].

    In 16 bits it is the median over the tokens: where rounding chooses another expert, one token is far off.
    """
    worst = (found - expected).abs().amax(dim=-1)
    return float(worst.median() if sixteen_bits else worst.max())


@torch.inference_mode()
def _logits(plain: Any, text: Sequence[int]) -> torch.Tensor:
    """Logits [tokens, vocab] of a text read at once, without a cache."""
    with without_cudnn():
        output = plain(torch.tensor([list(text)], device=input_device(plain)), use_cache=False)
    logits: torch.Tensor = output.logits[0].float()
    return logits
