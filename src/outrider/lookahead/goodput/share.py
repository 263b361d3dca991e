"""How a sequence fares, compared with what is expected."""

from __future__ import annotations

MEMORY = 0.94  # of one draft after the next
PRIOR = 3.0  # how many drafts a sequence's own are weighed against
SHORTEST = 2.0  # expected tokens, that each of these has at least


class Share:
    """Accepted tokens over those expected.

    Args:
        memory: of one draft after the next.
    """

    def __init__(self, memory: float = MEMORY) -> None:
        self._memory = memory
        self._accepted = 0.0
        self._expected = 0.0
        self._squares = 0.0  # of what was expected of each draft

    @property
    def factor(self) -> float:
        # The tokens of a draft mostly fail together: a long one that does is one mistake, however many they are.
        typical = max(self._squares / self._expected, SHORTEST) if self._expected else SHORTEST
        return (self._accepted + PRIOR * typical) / (self._expected + PRIOR * typical)

    def add(self, accepted: float, expected: float) -> None:
        self.fade(self._memory)
        self._accepted += accepted
        self._expected += expected
        self._squares += expected**2

    def fade(self, memory: float) -> None:
        """Let everything count less."""
        self._accepted *= memory
        self._expected *= memory
        self._squares *= memory
