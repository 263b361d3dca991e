"""What drafting costs: learned from the rounds themselves, for any drafter."""

from __future__ import annotations

import numpy as np

MEMORY = 0.98  # EMA decay, per round
# Ridge, for each price, as a share of its observations. Where all sequences draft alike, calls, positions and tokens
# cannot be told apart. The position has the smallest ridge and so gets the cost: the drafters that cost most are draft
# models, which pay per pass.
DOUBT = np.array([1e-2, 1e-4, 1e-2])
LEAST_DOUBT = 1e-9  # the same where nothing was observed, so that the equations have a solution
OUTLIER = 4.0  # a round counts as at most so many times slower than expected
SETTLED = 16  # observations; later ones change the prices little, and are fitted so many at a time


class DraftCost:
    """Seconds of drafting as call + position x (longest draft) + token x (tokens of all drafts).

    A draft model pays for passes, a drafter that looks things up pays for the call and hardly for tokens. The three
    prices are a ridge regression in which old rounds fade.
    """

    def __init__(self) -> None:
        self._moments = np.zeros((3, 3))
        self._products = np.zeros(3)
        self._observations = 0
        self._prices = 0.0, 0.0, 0.0
        self._unfitted: list[tuple[float, float, float, float]] = []  # calls, positions, tokens and seconds of rounds

    @property
    def prices(self) -> tuple[float, float, float]:
        """Seconds per call, per draft position, and per token; all 0 before the first observation."""
        if self._unfitted and (self._observations <= SETTLED or len(self._unfitted) >= SETTLED):
            self._prices = self._fit()
        return self._prices

    def seconds(self, longest: int, tokens: int) -> float:
        """Of a round in which the drafter is asked."""
        call, position, token = self.prices
        return call + position * longest + token * tokens

    def observe(self, longest: int, tokens: int, seconds: float) -> None:
        """Learn from a round in which the drafter was asked.

        Args:
            longest: the tokens of the longest draft; of trees the levels of the deepest.
            tokens: of all drafts together.
        """
        if self._observations > 2:
            seconds = min(seconds, OUTLIER * max(self.seconds(longest, tokens), 1e-9))
        self._observations += 1
        self._unfitted.append((1.0, longest, tokens, seconds))

    def _fit(self) -> tuple[float, float, float]:
        """Least squares with prices of at least 0: negative ones are set to 0 one after the other."""
        rounds = np.array(self._unfitted)
        self._unfitted.clear()
        features, seconds = rounds[:, :3], rounds[:, 3]
        remembered = MEMORY ** np.arange(len(rounds) - 1, -1, -1)
        self._moments = MEMORY ** len(rounds) * self._moments + (remembered * features.T) @ features
        self._products = MEMORY ** len(rounds) * self._products + (remembered * seconds) @ features
        free = [0, 1, 2]
        prices = np.zeros(3)
        while free:
            doubt = np.diag((DOUBT * np.diag(self._moments) + LEAST_DOUBT)[free])
            solved = np.linalg.solve(self._moments[np.ix_(free, free)] + doubt, self._products[free])
            if (solved >= 0).all():
                prices[free] = solved
                break
            free.remove(free[int(np.argmin(solved))])
        call, position, token = prices.tolist()
        return call, position, token
