"""How right estimated probabilities are: learned from what was accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping

from outrider.drafters.growth import LARGEST_SHARE

PRIOR = 4.0  # pseudo-counts: tokens for which an estimate is taken to be right
MEMORY = 0.995  # EMA decay, per context that is scored
LEAST, MOST = 0.2, 2.5  # the factors that are believed
BUCKETS = 8
TINY = 1e-3  # smaller shares are not counted: no price is worth a token of theirs

Evidence = tuple[int, int]


def bucket_of(share: float) -> int:
    """The bucket of a share: two for each halving."""
    return min(max(-math.frexp(share * share)[1], 0), BUCKETS - 1)


class Calibration:
    """The ratio of hits to expected hits, by the evidence behind an estimate and by its size.

    Each child of a node whose children were judged adds its estimate, and 1 if it was the accepted one.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[Evidence, int], list[float]] = {}  # expected and observed hits
        self._factors: dict[tuple[Evidence, int], float] = {}

    def calibrated(self, share: float, evidence: Evidence) -> float:
        """The estimate, corrected."""
        factor = self._factors.get((evidence, bucket_of(share)))
        return share if factor is None else min(share * factor, LARGEST_SHARE)

    def learn(self, shares: Mapping[int, float], evidence: Evidence, token: int) -> None:
        """Learn from a context whose next token is known.

        Args:
            shares: what was estimated, before correction.
            token: what came.
        """
        for candidate, share in shares.items():
            if share < TINY:
                continue
            key = evidence, bucket_of(share)
            counts = self._counts.setdefault(key, [0.0, 0.0])
            counts[0] = counts[0] * MEMORY + share
            counts[1] = counts[1] * MEMORY + (candidate == token)
            factor = (counts[1] + PRIOR * share) / (counts[0] + PRIOR * share)
            self._factors[key] = min(max(factor, LEAST), MOST)
