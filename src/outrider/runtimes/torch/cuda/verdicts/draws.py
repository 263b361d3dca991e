"""Draws from weights on the device, all rows at once."""

from __future__ import annotations

import torch


def draw(weights: torch.Tensor, numbers: torch.Tensor, otherwise: torch.Tensor) -> torch.Tensor:
    """From each row of weights the token at a uniform share of their sum, int64 [rows]: see `maths.draws.draw`.

    Args:
        weights: float32 [rows, vocab].
        numbers: float64 [rows], in [0, 1).
        otherwise: the weights of rows that are all 0.
    """
    left = weights.amax(dim=-1, keepdim=True) > 0
    running = torch.where(left, weights, otherwise).cumsum(dim=-1, dtype=torch.float64)
    total = running[:, -1:].contiguous()
    token = torch.searchsorted(running, numbers[:, None] * total, right=True)
    token = torch.minimum(token, torch.searchsorted(running, total))[:, 0]
    return token.clamp(max=weights.shape[-1] - 1)  # a NaN has no place; an id beyond the last one would be read


def without(weights: torch.Tensor, tokens: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """The weights [rows, vocab], 0 at those of the tokens [rows, some] that are gone. A token may occur twice."""
    factors = torch.where(gone, 0.0, torch.inf).to(weights.dtype)
    return weights.scatter_reduce(1, tokens, factors, "amin")
