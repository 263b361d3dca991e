"""How right estimated probabilities are: learned from what was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from math import frexp

from outrider.drafters.growth import LARGEST_SHARE

PRIOR = 4.0  # pseudo-counts: tokens for which an estimate is taken to be right
MEMORY = 0.995  # EMA decay, per context that is scored
LEAST, MOST = 0.2, 2.5  # the factors that are believed
BUCKETS = 8
TINY = 1e-3  # smaller shares are not counted: no price is worth a token of theirs

Evidence = tuple[int, int]


def bucket_of(share: float) -> int:
    """The bucket of a share: two for each halving."""
    halvings = -frexp(share * share)[1]
    return 0 if halvings < 0 else halvings if halvings < BUCKETS else BUCKETS - 1


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
        if factor is None:
            return share
        corrected = share * factor
        return corrected if corrected < LARGEST_SHARE else LARGEST_SHARE

    def factors(self) -> Mapping[tuple[Evidence, int], float]:
        """What estimates are corrected by, for each evidence and bucket of which something is known."""
        return self._factors

    def learn(self, shares: Mapping[int, float], evidence: Evidence, token: int) -> None:
        """Learn from a context whose next token is known.

        Args:
            shares: what was estimated, before correction.
            token: what came.
        """
        known, factors = self._counts, self._factors
        for candidate, share in shares.items():
            if share < TINY:
                continue
            key = evidence, bucket_of(share)
            counts = known.get(key)
            if counts is None:
                counts = known[key] = [0.0, 0.0]
            expected = counts[0] = counts[0] * MEMORY + share
            observed = counts[1] = counts[1] * MEMORY + (candidate == token)
            factor = (observed + PRIOR * share) / (expected + PRIOR * share)
            factors[key] = LEAST if factor < LEAST else MOST if factor > MOST else factor
