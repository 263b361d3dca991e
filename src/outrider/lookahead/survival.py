"""How far drafts survive: estimates for one sequence, leaning on all others where it has said little itself."""

from __future__ import annotations

import numpy as np

from outrider.arrays import HostFloats

OPTIMISM = 0.75  # the chance of acceptance before anything was seen
POOL_PRIOR = 2.0  # how many drafts that is worth
SEQUENCE_PRIOR = 6.0  # how many drafts of its own the pool's experience is worth to a sequence
SMALLEST_CHANCE = 1e-3
POOL_MEMORY = 0.998  # of one draft after the next
SEQUENCE_MEMORY = 0.94


class Counts:
    """Of how many drafts that reached a position did the next token pass, with old drafts counting less and less.

    Attributes:
        tried, passed: [positions]; of the drafts in which every token before position i passed, how many were allowed
            to go on to i, and how many of these passed i.
    """

    def __init__(self, positions: int, memory: float) -> None:
        self.tried = np.zeros(positions)
        self.passed = np.zeros(positions)
        self._memory = memory

    def add(self, allowed: int, passed: int) -> None:
        """A draft of at most `allowed` tokens of which the first `passed` passed."""
        # Only what was asked again fades: the knowledge of long drafts stays while short ones are made.
        asked = min(passed + 1, allowed, len(self.tried))
        self.tried[:asked] = self.tried[:asked] * self._memory + 1
        self.passed[:asked] *= self._memory
        self.passed[: min(passed, asked)] += 1

    def fade(self, memory: float) -> None:
        """Let everything count less."""
        self.tried *= memory
        self.passed *= memory


def pooled_chances(pool: Counts) -> HostFloats:
    """[positions]: the chance to pass each position, given that those before were passed.

    A position that was seldom tried leans on the one before it.
    """
    chances = np.empty(len(pool.tried))
    before = OPTIMISM
    for position, (tried, passed) in enumerate(zip(pool.tried.tolist(), pool.passed.tolist(), strict=True)):
        before = (passed + POOL_PRIOR * before) / (tried + POOL_PRIOR)
        chances[position] = before
    return chances


def survival(own: Counts, pool: HostFloats) -> HostFloats:
    """[positions]: the chance that a draft of this sequence is accepted up to each position.

    The pool's chances are first moved to where this sequence lies as a whole: a sequence that does better at the first
    positions is expected to do better at those it never tried.
    """
    tried = own.tried.sum()
    if tried:
        expected = (own.tried @ pool) / tried
        found = (own.passed.sum() + SEQUENCE_PRIOR * expected) / (tried + SEQUENCE_PRIOR)
        pool = np.clip(pool, SMALLEST_CHANCE, 1 - SMALLEST_CHANCE)
        expected = min(max(expected, SMALLEST_CHANCE), 1 - SMALLEST_CHANCE)
        found = min(max(found, SMALLEST_CHANCE), 1 - SMALLEST_CHANCE)
        odds = pool / (1 - pool) * (found / (1 - found)) / (expected / (1 - expected))
        pool = odds / (1 + odds)
    chances: HostFloats = (own.passed + SEQUENCE_PRIOR * pool) / (own.tried + SEQUENCE_PRIOR)
    return np.asarray(np.cumprod(chances))
