"""How a sequence fares, compared with what is expected."""

from __future__ import annotations

MEMORY = 0.94  # of one draft after the next
PRIOR = 6.0  # how many expected tokens a sequence's own are weighed against


class Share:
    """Accepted tokens over those expected.

    Args:
        memory: of one draft after the next.
    """

    def __init__(self, memory: float = MEMORY) -> None:
        self._memory = memory
        self._accepted = 0.0
        self._expected = 0.0

    @property
    def factor(self) -> float:
        return (self._accepted + PRIOR) / (self._expected + PRIOR)

    def add(self, accepted: float, expected: float) -> None:
        self.fade(self._memory)
        self._accepted += accepted
        self._expected += expected

    def fade(self, memory: float) -> None:
        """Let everything count less."""
        self._accepted *= memory
        self._expected *= memory
