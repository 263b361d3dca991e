"""Whether to ask a drafter at all: looking for a draft takes time, found or not."""

from __future__ import annotations

MEMORY = 0.9  # EMA decay, per round in which the drafter is asked
FIRST = 0.5  # tokens: what asking is taken to bring before anything is known
LONGEST_PAUSE = 8  # rounds; longer ones save little more, and miss the beginning of a copy
PROBE = 2  # rounds in which the drafter is asked after a pause, before the next one


class Asking:
    """What asking a drafter about one sequence has brought, in tokens of output.

    While it brings something, the drafter is asked in every round. Otherwise it is asked in PROBE rounds after ever
    longer pauses: exploration with exponential back-off, up to LONGEST_PAUSE.
    """

    def __init__(self) -> None:
        self._gain = FIRST
        self._pause = 1  # how long the next one is
        self._silent = 0  # rounds of a pause that are left
        self._probing = 0  # rounds of a probe that are left

    @property
    def pays(self) -> bool:
        """Whether the drafter is asked in the next round."""
        return not self._silent

    def pass_by(self) -> None:
        """A round without being asked."""
        self._silent = max(self._silent - 1, 0)
        if not self._silent:
            self._probing = PROBE

    def learn(self, gain: float) -> None:
        """The drafter was asked.

        Args:
            gain: accepted tokens, less what asking, drafting and scoring the draft took, in tokens.
        """
        self._gain = MEMORY * self._gain + (1 - MEMORY) * gain
        if self._gain >= 0:
            self._pause, self._probing = 1, 0
            return
        self._probing -= 1
        if self._probing <= 0:
            self._silent = self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
