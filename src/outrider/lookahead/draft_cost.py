"""What drafting costs: learned from the rounds themselves, for any drafter."""

from __future__ import annotations

import numpy as np

MEMORY = 0.98  # of one round after the next
# Of each price, as a share of what was observed. Where all sequences draft alike, calls, positions and tokens cannot be
# told apart; then the position has it, for what costs most is a draft model, which pays by the pass.
DOUBT = np.array([1e-2, 1e-4, 1e-2])
LEAST_DOUBT = 1e-9
OUTLIER = 4.0  # times what was expected
SETTLED = 16  # observations, after which so many more change little


class DraftCost:
    """Seconds of drafting as call + passes x (longest draft) + tokens x (all drafts together).

    A draft model pays for passes, a drafter that looks things up pays for the call and hardly for tokens. The three
    prices are a least-squares fit in which old rounds count less and less.
    """

    def __init__(self) -> None:
        self._moments = np.zeros((3, 3))
        self._products = np.zeros(3)
        self._observations = 0
        self._prices = np.zeros(3)
        self._unfitted = 0

    @property
    def prices(self) -> tuple[float, float, float]:
        """Seconds per call, per draft position, and per token; all 0 before the first observation."""
        if self._unfitted and (self._observations <= SETTLED or self._unfitted >= SETTLED):
            self._prices, self._unfitted = self._fit(), 0
        call, position, token = (float(price) for price in self._prices)
        return call, position, token

    def seconds(self, longest: int, tokens: int) -> float:
        """Of a round in which the drafter is asked."""
        call, position, token = self.prices
        return call + position * longest + token * tokens

    def observe(self, longest: int, tokens: int, seconds: float) -> None:
        """Learn from a round in which the drafter was asked.

        Args:
            longest: the tokens of the longest draft.
            tokens: of all drafts together.
        """
        features = np.array([1.0, longest, tokens])
        if self._observations > 2:
            seconds = min(seconds, OUTLIER * max(float(features @ self.prices), 1e-9))
        self._observations += 1
        self._moments = MEMORY * self._moments + np.outer(features, features)
        self._products = MEMORY * self._products + features * seconds
        self._unfitted += 1

    def _fit(self) -> np.ndarray:
        """Least squares with prices of at least 0: the negative ones are set to 0 one after the other."""
        free = [0, 1, 2]
        prices = np.zeros(3)
        while free:
            doubt = np.diag((DOUBT * np.diag(self._moments) + LEAST_DOUBT)[free])
            solved = np.linalg.solve(self._moments[np.ix_(free, free)] + doubt, self._products[free])
            if (solved >= 0).all():
                prices[free] = solved
                break
            free.remove(free[int(np.argmin(solved))])
        return prices
