"""What attention adds to a pass as texts grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

MEMORY = 0.999  # EMA decay, per pass: slow, because this part depends on the model, not on the load of the machine
DOUBT = 64.0  # ridge, in pairs of (new token, cached token): what fewer pairs add is lost in the noise of a pass
LEAST_SHARE = 0.5  # of the measured time: the least that passes over shorter texts may take


class AttentionCost:
    """The seconds that a pass takes longer for each token cached beyond the context of the measurement.

    One part is paid per row, whose keys and values are read; one part per new token, which attends to them. Which of
    them matters depends on the runtime. Both are a ridge regression of passes' times. Plain decoding cannot tell them
    apart, so there they share what there is until sequences draft.

    Attributes:
        per_row, per_token: seconds, for each token cached beyond.
    """

    def __init__(self) -> None:
        self._moments = 0.0, 0.0, 0.0  # rows x rows, rows x tokens, tokens x tokens
        self._products = 0.0, 0.0  # rows x seconds, tokens x seconds
        self.per_row = self.per_token = 0.0

    def added_to(self, base: Any, rows: int, tokens: Any, beyond: float) -> Any:
        """The whole time of passes that took `base` seconds when they were measured; numbers, or arrays of them.

        Args:
            beyond: how many more tokens are cached in each row than at the measurement; may be negative.
        """
        if not beyond:
            return base
        return np.maximum(base + self._added(rows, tokens, beyond), LEAST_SHARE * base)

    def added_to_one(self, base: float, rows: int, tokens: int, beyond: float) -> float:
        """The same of one pass, in numbers of Python: each pass that is run asks for it."""
        return max(base + float(self._added(rows, tokens, beyond)), LEAST_SHARE * base)

    def added_to_few(self, base: Sequence[float], rows: int, beyond: float) -> list[float]:
        """The same of passes over 0, 1, ... tokens, in numbers of Python."""
        per_row, per_token = self.per_row * rows * beyond, self.per_token * beyond
        return [
            max(seconds + per_row + per_token * max(tokens, rows), LEAST_SHARE * seconds)
            for tokens, seconds in enumerate(base)
        ]

    def _added(self, rows: int, tokens: Any, beyond: float) -> Any:
        return (self.per_row * rows + self.per_token * tokens) * beyond

    def observe(self, rows: int, tokens: int, beyond: float, seconds: float) -> None:
        """Learn from a pass over texts longer by `beyond` tokens, which took `seconds` more than when measured."""
        if not beyond:
            return
        x, y = rows * beyond, tokens * beyond
        (a, b, c), (p, q) = self._moments, self._products
        self._moments = MEMORY * a + x * x, MEMORY * b + x * y, MEMORY * c + y * y
        self._products = MEMORY * p + x * seconds, MEMORY * q + y * seconds
        self._solve()

    def _solve(self) -> None:
        (a, b, c), (p, q) = self._moments, self._products
        a, c = a + DOUBT**2, c + DOUBT**2
        determinant = a * c - b * b
        per_row, per_token = (c * p - b * q) / determinant, (a * q - b * p) / determinant
        if per_row < 0 or per_token < 0:  # the smaller one is set to 0, and the other fitted alone
            per_row, per_token = (0.0, q / c) if per_row < per_token else (p / a, 0.0)
        self.per_row, self.per_token = max(per_row, 0.0), max(per_token, 0.0)
