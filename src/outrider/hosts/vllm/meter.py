"""What speculation did, in a line now and then."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("outrider")


class Meter:
    """Counts tokens and logs them.

    Args:
        seconds: between two lines; 0 logs nothing.
        clock: seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds, self._clock = seconds, clock
        self._since = clock()
        self._steps = self._emitted = self._drafted = self._accepted = 0

    def count(self, emitted: int, drafted: int, accepted: int) -> None:
        """One step of one text."""
        self._steps += 1
        self._emitted += emitted
        self._drafted += drafted
        self._accepted += accepted

    def log(self) -> None:
        """Log what was counted since the last line, if it is time."""
        passed = self._clock() - self._since
        if not self._seconds or passed < self._seconds or not self._steps:
            return
        rate = self._accepted / self._drafted if self._drafted else 0.0
        logger.info(
            "%.2f tokens per step, %d of %d drafted tokens accepted (%.0f%%), %.1f tokens per second",
            self._emitted / self._steps,
            self._accepted,
            self._drafted,
            100 * rate,
            self._emitted / passed,
        )
        self._since += passed
        self._steps = self._emitted = self._drafted = self._accepted = 0
