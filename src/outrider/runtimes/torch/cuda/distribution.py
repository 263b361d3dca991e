"""The distribution that is sampled from, as `maths/sampling.py` makes it, asking the host only for top-p."""

from __future__ import annotations

import math

import torch

from outrider.maths.sampling import SamplingParams, distribution


def sound(logits: torch.Tensor) -> torch.Tensor:
    """Whether a row of logits has a finite largest value and no NaN, bool [rows]."""
    return logits.amax(dim=-1).isfinite()


def distribution_on_device(logits: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """As `maths.sampling.distribution`, float32 [rows, vocab] of float32 logits; a row that is not sound may be
    anything.

    With top-p that one asks the host how far it has to sort, and sorting whole vocabularies instead may take longer.
    """
    if params.top_p < 1:
        probabilities: torch.Tensor = distribution(logits, params)
        return probabilities
    if params.temperature != 1:
        logits = logits / params.temperature
    if 0 < params.top_k < logits.shape[-1]:
        least = torch.topk(logits, params.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -math.inf)
    probabilities = torch.softmax(logits, dim=-1)
    if params.min_p == 0:
        return probabilities
    least = probabilities.amax(dim=-1, keepdim=True) * params.min_p
    probabilities = probabilities.masked_fill(probabilities < least, 0.0)
    return probabilities / probabilities.sum(dim=-1, keepdim=True)
