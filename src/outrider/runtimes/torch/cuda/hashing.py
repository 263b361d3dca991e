"""The counter-based generator of `maths/noise.py` on the device: keys made where they are used."""

from __future__ import annotations

import torch

from outrider.maths.noise import MIX_1, MIX_2, STEP

WORD = 2**64


def signed(word: int) -> int:
    """The 64 bits of a word as a signed number."""
    word %= WORD
    return word - WORD if word >= WORD // 2 else word


def scrambled(words: torch.Tensor) -> torch.Tensor:
    """As `maths.noise._scramble`, of the bits of int64: products wrap around as those of unsigned words do."""
    words = words + signed(STEP)
    words = (words ^ _right(words, 30)) * signed(MIX_1)
    words = (words ^ _right(words, 27)) * signed(MIX_2)
    return words ^ _right(words, 31)


def keys_of(words: torch.Tensor) -> torch.Tensor:
    """The two words of each key, int32 [..., 2], of int64 [...]."""
    return words.contiguous()[..., None].view(torch.int32).flip(-1)  # the lower half lies first


def _right(words: torch.Tensor, bits: int) -> torch.Tensor:
    return (words >> bits) & ((1 << (64 - bits)) - 1)
