"""Exploration with exponential back-off: when to try a draft again where drafts do not pay."""

from __future__ import annotations

FIRST_WAIT = 4  # plain rounds before the first probe


class Patience:
    """How long a new sequence waits before its first probe; what one sequence learned, the next ones start with.

    Args:
        longest: the most plain rounds between two probes of a sequence.
    """

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.first = FIRST_WAIT


class Probing:
    """The exploration of one sequence: after every probe in vain it waits twice as long.

    Attributes:
        wait: plain rounds until the next probe, at the most.
        idle: plain rounds since the last draft.
        now: whether the coming draft is a probe.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self.wait = patience.first
        self.idle = 0
        self.now = False

    def plan(self, pays: bool) -> None:
        """Begin a round.

        Args:
            pays: whether a draft promises more than plain decoding.
        """
        self.now = False
        if pays:
            self.wait = self._patience.first = FIRST_WAIT

    def learn(self, drafted: bool, accepted: int) -> None:
        """End a round.

        Args:
            drafted: whether a draft was allowed.
            accepted: tokens of it.
        """
        if not drafted:
            self.idle += 1
            return
        self.idle = 0
        if self.now:
            if accepted:
                self.idle = 2 * self._patience.longest  # probe again at once
            self.wait = min(2 * self.wait, self._patience.longest)
            self._patience.first = min(2 * self._patience.first, self._patience.longest // 4)
