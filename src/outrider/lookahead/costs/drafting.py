"""What drafting costs: learned from the rounds themselves, for any drafter.

In plain numbers: three prices are too few for NumPy, whose code would come from memory each time.
"""

from __future__ import annotations

from collections.abc import Sequence

MEMORY = 0.98  # EMA decay, per round
# Ridge, for each price, as a share of its observations. Where all sequences draft alike, calls, positions and tokens
# cannot be told apart. The position has the smallest ridge and so gets the cost: the drafters that cost most are draft
# models, which pay per pass.
DOUBT = (1e-2, 1e-4, 1e-2)
LEAST_DOUBT = 1e-9  # the same where nothing was observed, so that the equations have a solution
OUTLIER = 4.0  # a round counts as at most so many times slower than expected
SETTLED = 16  # observations; later ones change the prices little, and are fitted so many at a time


class DraftCost:
    """Seconds of drafting as call + position x (longest draft) + token x (tokens of all drafts).

    A draft model pays for passes, a drafter that looks things up pays for the call and hardly for tokens. The three
    prices are a ridge regression in which old rounds fade.
    """

    def __init__(self) -> None:
        # Sums over rounds, with call, position and token as the three features: of the products of two of them, of
        # each with the seconds.
        self._moments = [[0.0] * 3 for _ in range(3)]
        self._products = [0.0] * 3
        self._observations = 0
        self._unfitted = 0  # observations since the last fit
        self._prices = 0.0, 0.0, 0.0

    @property
    def prices(self) -> tuple[float, float, float]:
        """Seconds per call, per draft position, and per token; all 0 before the first observation."""
        if self._unfitted and (self._observations <= SETTLED or self._unfitted >= SETTLED):
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
        self._unfitted += 1
        features = 1.0, longest, tokens
        for row, one in zip(self._moments, features, strict=True):
            for place, other in enumerate(features):
                row[place] = MEMORY * row[place] + one * other
        self._products = [
            MEMORY * product + one * seconds for product, one in zip(self._products, features, strict=True)
        ]

    def _fit(self) -> tuple[float, float, float]:
        """Least squares with prices of at least 0: negative ones are set to 0 one after the other."""
        self._unfitted = 0
        free = [0, 1, 2]
        prices = [0.0, 0.0, 0.0]
        while free:
            matrix = [[self._moments[one][other] for other in free] for one in free]
            for place, one in enumerate(free):
                matrix[place][place] *= 1 + DOUBT[one]
                matrix[place][place] += LEAST_DOUBT
            found = solved(matrix, [self._products[one] for one in free])
            least = min(found)
            if least >= 0:
                for one, price in zip(free, found, strict=True):
                    prices[one] = price
                break
            del free[found.index(least)]
        return prices[0], prices[1], prices[2]


def solved(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """The x of matrix x = right, by elimination without pivoting: the matrix is symmetric and positive definite."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot in range(size):
        for row in rows[pivot + 1 :]:
            factor = row[pivot] / rows[pivot][pivot]
            for place in range(pivot, size + 1):
                row[place] -= factor * rows[pivot][place]
    x = [0.0] * size
    for place in reversed(range(size)):
        known = sum([rows[place][other] * x[other] for other in range(place + 1, size)])
        x[place] = (rows[place][size] - known) / rows[place][place]
    return x
