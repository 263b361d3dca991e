"""The distributions that rows are sampled from, each by its own settings, in operations that a graph can hold.

They are those of `maths/sampling.py`. Nothing is sorted: how far a nucleus reaches would have to be asked of the
device, and sorts of several rows cannot be captured. A threshold is found by bisection over the bits of a float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from outrider.maths.sampling import SamplingParams

MOST_SORTED = 256  # the largest top-k whose tokens are found by torch.topk
ONE = 0x3F80_0000  # the bits of 1.0
SIGN = 0x7FFF_FFFF


@dataclass(frozen=True, slots=True)
class Filters:
    """Which settings any of the rows has: what is computed for all of them.

    Attributes:
        top_k: the largest k up to a power of 2; 0 where no row has one.
    """

    greedy: bool = False
    tempered: bool = False
    top_k: int = 0
    top_p: bool = False
    min_p: bool = False

    @classmethod
    def of(cls, rows: Sequence[SamplingParams]) -> Filters:
        largest = max(row.top_k for row in rows)
        return cls(
            greedy=any(row.greedy for row in rows),
            tempered=any(row.temperature not in (0, 1) for row in rows),
            top_k=1 << (largest - 1).bit_length() if largest else 0,
            top_p=any(row.top_p < 1 for row in rows),
            min_p=any(row.min_p > 0 for row in rows),
        )


SETTINGS = 4


def settings_of(row: SamplingParams) -> np.ndarray[Any, np.dtype[np.float64]]:
    """float64 [SETTINGS], as the device hears them."""
    return np.array([row.temperature, row.top_k, row.top_p, row.min_p], dtype=np.float64)


def sound(logits: torch.Tensor) -> torch.Tensor:
    """Whether a row of logits has a finite largest value and no NaN, bool [rows]."""
    return logits.amax(dim=-1).isfinite()


def distributions(logits: torch.Tensor, settings: torch.Tensor, filters: Filters) -> torch.Tensor:
    """As `maths.sampling.distribution` of each row; at temperature 0 all of it lies on the most probable token.

    Args:
        logits: float32 [rows, vocab]. A row that is not sound gives anything.
        settings: float64 [SETTINGS, rows], see `settings_of`.
        filters: which of them are looked at.

    Returns:
        float32 [rows, vocab].
    """
    temperature, top_k, top_p, min_p = settings.unbind()
    choices = logits.argmax(dim=-1, keepdim=True) if filters.greedy else None
    if filters.tempered:
        logits = logits / torch.where(temperature > 0, temperature, 1.0).float()[:, None]
    if filters.top_k:
        logits = logits.masked_fill(logits < kth_largest(logits, top_k, filters.top_k), -math.inf)
    probabilities = torch.softmax(logits, dim=-1)
    if filters.top_p:
        least = torch.where(top_p < 1, nucleus_threshold(probabilities, top_p)[:, 0], 0.0)[:, None]
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    if filters.min_p:
        least = probabilities.amax(dim=-1, keepdim=True) * min_p.float()[:, None]
        probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    if filters.top_p or filters.min_p:
        cut = (top_p < 1) | (min_p > 0)
        probabilities = probabilities / torch.where(cut, probabilities.sum(dim=-1), 1.0)[:, None]
    if choices is not None:
        one_hot = torch.zeros_like(probabilities).scatter_(1, choices, 1.0)
        probabilities = torch.where((temperature > 0)[:, None], probabilities, one_hot)
    return probabilities


def kth_largest(logits: torch.Tensor, k: torch.Tensor, most: int) -> torch.Tensor:
    """Of each row the k-th largest logit, [rows, 1]; -inf where k is 0, or at least the vocabulary.

    Args:
        k: float64 [rows].
        most: at least every k.
    """
    vocab = logits.shape[-1]
    limited = ((k > 0) & (k < vocab))[:, None]
    if most <= min(MOST_SORTED, vocab):
        at = (k.long() - 1).clamp(0, most - 1)[:, None]
        found = torch.topk(logits, most, dim=-1).values.gather(1, at)
    else:
        bits = logits.contiguous().view(torch.int32)
        ordered = bits ^ ((bits >> 31) & SIGN)  # integers in the order of the floats
        least = _smallest(-SIGN, SIGN, logits, lambda at: (ordered > at).sum(dim=-1, keepdim=True) < k[:, None])
        least = least.int()
        found = (least ^ ((least >> 31) & SIGN)).view(torch.float32)
    return torch.where(limited, found, -math.inf)


def nucleus_threshold(probabilities: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Of each row the smallest number such that those above it sum to less than `mass`, float32 [rows, 1].

    It is the last probability of the nucleus, ties at it included.
    """

    def holds(at: torch.Tensor) -> torch.Tensor:
        above = torch.where(probabilities > at.int().view(torch.float32), probabilities, 0.0)
        return above.sum(dim=-1, keepdim=True, dtype=torch.float64) < mass[:, None]

    return _smallest(0, ONE, probabilities, holds).int().view(torch.float32)


def _smallest(first: int, last: int, like: torch.Tensor, holds: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """The smallest whole number for which `holds`, int64 [rows, 1]; it holds for all larger ones, and for `last`."""
    low = torch.full((len(like), 1), first, dtype=torch.int64, device=like.device)
    high = torch.full_like(low, last)
    for _ in range((last - first).bit_length()):
        middle = (low + high) >> 1  # rounds down, below 0 too
        right = holds(middle)
        low, high = torch.where(right, low, middle + 1), torch.where(right, middle, high)
    return high
