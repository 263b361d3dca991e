"""How often drafts of all sequences passed each position."""

from __future__ import annotations

import math

OPTIMISM = 0.75  # the chance of acceptance before the first draft
PRIOR = 2.0  # pseudo-counts: drafts that this chance, or that of the position before, is worth
MEMORY = 0.998  # EMA decay, per draft
SMALLEST_CHANCE = 1e-3  # chances stay this far from 0 and 1, so that odds and logarithms exist


class PositionCounts:
    """Counts, for each position, the drafts that reached it and those whose next token passed; old drafts fade (EMA).

    Attributes:
        tried: [positions]; the drafts whose tokens before position i all passed and that could go on to i.
        passed: [positions]; those of them whose token i passed.
    """

    def __init__(self, positions: int) -> None:
        # Lists, because a draft changes a few numbers only and each NumPy call takes longer than that.
        self.tried = [0.0] * positions
        self.passed = [0.0] * positions
        self._chances: dict[float, list[float]] = {}  # by hope
        self._odds: dict[float, list[float]] = {}  # by hope

    def add(self, allowed: int, passed: int) -> None:
        """Learn from a draft of at most `allowed` tokens, of which the first `passed` passed."""
        # Only positions that this draft tests fade: what long drafts taught stays while short ones are made.
        tested = min(passed + 1, allowed, len(self.tried))
        self._chances.clear()
        self._odds.clear()
        for position in range(tested):
            self.tried[position] = self.tried[position] * MEMORY + 1
            self.passed[position] = self.passed[position] * MEMORY + (position < passed)

    def chances(self, hope: float = 0.0) -> list[float]:
        """[positions]: the chance to pass each position, given that those before were passed.

        The prior of a position is the chance of the one before it.

        Args:
            hope: an optimism bonus, in standard deviations of the estimate.
        """
        if hope not in self._chances:
            self._chances[hope] = self._estimate(hope)
        return self._chances[hope]

    def odds(self, hope: float = 0.0) -> list[float]:
        """[positions]: the same chances as odds."""
        if hope not in self._odds:
            self._odds[hope] = [chance / (1 - chance) for chance in self.chances(hope)]
        return self._odds[hope]

    def _estimate(self, hope: float) -> list[float]:
        chances = []
        before = OPTIMISM
        for tried, passed in zip(self.tried, self.passed, strict=True):
            before = chance = (passed + PRIOR * before) / (tried + PRIOR)
            if hope:
                chance += hope * math.sqrt(before * (1 - before) / (tried + 1))
            if not SMALLEST_CHANCE < chance < 1 - SMALLEST_CHANCE:
                chance = min(max(chance, SMALLEST_CHANCE), 1 - SMALLEST_CHANCE)
            chances.append(chance)
        return chances
