"""The chain of a sequence that drafts alone, in plain numbers.

For so few numbers NumPy takes several times as long: beside the passes of a model its code comes from memory each time.
"""

from __future__ import annotations

from collections.abc import Sequence

Prices = tuple[float, float, float]  # seconds of drafting: per call, per position, per token


def best_length(
    survives: Sequence[float], drafts: Sequence[float], seconds: Sequence[float], prices: Prices, overhead: float
) -> tuple[int, float]:
    """The length of the chain with the most expected tokens per second, and how many these are.

    Args:
        survives, drafts: S and D, [positions].
        seconds: of passes over 0, 1, ... tokens.
        prices: of drafting.
        overhead: seconds that a round takes besides.
    """
    call, position, token = prices
    plain = seconds[1] + overhead
    best, rate = 0, 1 / plain
    accepted = drafted = added = 0.0
    for length, (survival, draft) in enumerate(zip(survives, drafts, strict=True), start=1):
        accepted += survival
        drafted += draft
        added += draft * (seconds[length + 1] - seconds[length])
        found = (1 + accepted) / (plain + added + call + (position + token) * drafted)
        if found > rate:
            best, rate = length, found
    return best, rate


def least_loss(
    hopes: Sequence[float], drafts: Sequence[float], seconds: Sequence[float], prices: Prices, rate: float
) -> tuple[int, float]:
    """The length of the chain that would lose least against plain decoding, and how many tokens that are.

    Args:
        hopes: S as it is hoped to be, [positions].
        drafts, seconds, prices: as for `best_length`.
        rate: tokens per second of plain decoding.
    """
    call, position, token = prices
    length, least = 0, float("inf")
    accepted = drafted = 0.0
    for tried, (hope, draft) in enumerate(zip(hopes, drafts, strict=True), start=1):
        accepted += hope
        drafted += draft
        added = _between(seconds, 1 + drafted) - seconds[1]
        loss = (added + call + position * tried + token * drafted) * rate - accepted
        if loss < least:
            length, least = tried, loss
    return length, least


def _between(seconds: Sequence[float], tokens: float) -> float:
    """The time of a pass over a number of tokens that need not be whole."""
    below = min(int(tokens), len(seconds) - 2)
    return seconds[below] + (tokens - below) * (seconds[below + 1] - seconds[below])
