"""A plain mean that becomes an exponential moving average."""

from __future__ import annotations

STEP = 0.05  # the weight of a new value in the EMA


class RunningMean:
    """The mean of the first values, and an EMA once there are more than 1 / STEP of them.

    Attributes:
        value: 0 before the first one.
    """

    def __init__(self) -> None:
        self.value = 0.0
        self._seen = 0

    def add(self, value: float) -> None:
        self._seen += 1
        self.value += max(STEP, 1 / self._seen) * (value - self.value)
