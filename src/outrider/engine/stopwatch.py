"""How long each phase of a round takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from outrider.lookahead import Times

Phase = Literal["drafting", "verification", "elsewhere"]


class Stopwatch:
    """Adds up the seconds of a round's phases.

    Args:
        clock: seconds.

    Attributes:
        started: when the round began.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.started = self._last = clock()
        self._seconds: dict[Phase, float] = {"drafting": 0.0, "verification": 0.0, "elsewhere": 0.0}

    def phase_ends(self, phase: Phase) -> None:
        """Add the time since the last call to this phase."""
        now = self._clock()
        self._seconds[phase] += now - self._last
        self._last = now

    @property
    def times(self) -> Times:
        return Times(**self._seconds)
