"""The acceptance ratio of one sequence: accepted tokens, compared with the expected ones."""

from __future__ import annotations

MEMORY = 0.94  # EMA decay, per draft
PRIOR = 3.0  # pseudo-counts: drafts with a ratio of 1, against which the own ones are weighed
SHORTEST = 2.0  # expected tokens; the least that each of these drafts counts


class Share:
    """Accepted over expected tokens, as an EMA with a prior of 1.

    Args:
        memory: the decay per draft.
    """

    def __init__(self, memory: float = MEMORY) -> None:
        self._memory = memory
        self._accepted = 0.0
        self._expected = 0.0
        self._squares = 0.0  # of the expected tokens of each draft

    @property
    def factor(self) -> float:
        """The ratio: above 1, more is accepted than expected."""
        # The tokens of a draft mostly fail together: a long draft that fails is one mistake, not many.
        typical = max(self._squares / self._expected, SHORTEST) if self._expected else SHORTEST
        return (self._accepted + PRIOR * typical) / (self._expected + PRIOR * typical)

    def add(self, accepted: float, expected: float) -> None:
        """Learn from a draft; both in tokens."""
        self.fade(self._memory)
        self._accepted += accepted
        self._expected += expected
        self._squares += expected**2

    def fade(self, memory: float) -> None:
        """Let everything so far count less, by this factor."""
        self._accepted *= memory
        self._expected *= memory
        self._squares *= memory
