"""Weights over the vocabulary, and draws from them: float32 [vocab] arrays of any library, which need not sum to 1."""

from __future__ import annotations

from outrider.maths.arrays import Array, divide, keyed_race, positive_difference, race_order, sums, token_at
from outrider.maths.noise import Key, exponential, uniform


def draw(weights: Array, key: Key, otherwise: Array | None = None) -> int:
    """One draw from the weights: the token at a uniform share of their sum (inverse transform sampling).

    Args:
        otherwise: the weights to draw from where those are all 0.
    """
    token = token_at(weights, uniform(key))
    return draw(otherwise, key) if token < 0 and otherwise is not None else token


def draw_shared(weights: Array, key: Key) -> int:
    """One draw by the noise that drafter and target share under `coupled`: argmax(log weight + Gumbel noise)."""
    return int(keyed_race(weights[None], [key])[0])


def draw_several(weights: Array, key: Key, count: int) -> list[int]:
    """`count` draws without replacement, in their order: the first tokens of an exponential race."""
    return race_order(weights, exponential([key], weights.shape[-1], weights)[0], count)


def probability(distribution: Array, token: int) -> float:
    """That of one token."""
    return float(distribution[token].item())


def residual(p: Array, q: Array) -> Array:
    """max(p - q, 0): normalised, the distribution of the correction. arXiv 2211.17192, section 2.3."""
    return positive_difference(p, q)


def normalised(weights: Array, otherwise: Array) -> Array:
    """The weights divided by their sum; `otherwise` where nothing is left, because p equals q up to rounding."""
    total = sums(weights)
    return divide(weights, total) if total > 0 else otherwise
