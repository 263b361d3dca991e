"""A mean that soon forgets."""

from __future__ import annotations

STEP = 0.05  # the weight of a new value, once there were many


class RunningMean:
    """The mean of what was seen, and later of what was seen of late."""

    def __init__(self) -> None:
        self.value = 0.0
        self._seen = 0

    def add(self, value: float) -> None:
        self._seen += 1
        self.value += max(STEP, 1 / self._seen) * (value - self.value)
