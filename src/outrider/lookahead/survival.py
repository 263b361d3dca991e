"""How far drafts survive: what all drafts say of each position, moved to where one sequence lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from outrider.arrays import HostFloats

OPTIMISM = 0.75  # the chance of acceptance before anything was seen
POOL_PRIOR = 2.0  # how many drafts that is worth
POOL_MEMORY = 0.998  # of one draft after the next
SMALLEST_CHANCE = 1e-3
# Three ways to look at a sequence: as one of many that are much alike, as itself, and as it has been just now, with one
# chance for all positions. How many drafted tokens the experience with all sequences is worth, and the memory of one
# token of its own after the next.
PRIORS = np.array([60.0, 4.0, 2.0])
MEMORIES = np.array([0.995, 0.97, 0.9])
JUST_NOW = 2
SCORE_MEMORY = 0.99  # of how well each of them foretold one draft after the next


class Counts:
    """Of how many drafts that reached a position did the next token pass, with old drafts counting less and less.

    Attributes:
        tried, passed: [positions]; of the drafts in which every token before position i passed, how many were allowed
            to go on to i, and how many of these passed i.
    """

    def __init__(self, positions: int) -> None:
        # Lists: a draft changes a few numbers, and each of NumPy's calls takes longer than that.
        self.tried = [0.0] * positions
        self.passed = [0.0] * positions

    def add(self, allowed: int, passed: int) -> None:
        """A draft of at most `allowed` tokens of which the first `passed` passed."""
        # Only what was asked again fades: the knowledge of long drafts stays while short ones are made.
        asked = min(passed + 1, allowed, len(self.tried))
        for position in range(asked):
            self.tried[position] = self.tried[position] * POOL_MEMORY + 1
            self.passed[position] = self.passed[position] * POOL_MEMORY + (position < passed)

    def chances(self, hope: float = 0.0) -> HostFloats:
        """[positions]: the chance to pass each position, given that those before were passed.

        A position that was seldom tried leans on the one before it.

        Args:
            hope: by how many standard deviations of what was counted the chance may be better.
        """
        chances = []
        before = OPTIMISM
        for tried, passed in zip(self.tried, self.passed, strict=True):
            before = (passed + POOL_PRIOR * before) / (tried + POOL_PRIOR)
            hoped = before + hope * math.sqrt(before * (1 - before) / (tried + 1))
            chances.append(min(max(hoped, SMALLEST_CHANCE), 1 - SMALLEST_CHANCE))
        return np.array(chances)


class Own:
    """What one sequence's own drafts say, seen in each of the three ways.

    Attributes:
        tried: [views, positions], as in Counts.
        passed: [views], all positions together.
    """

    def __init__(self, positions: int) -> None:
        self.tried = np.zeros((len(PRIORS), positions))
        self.passed = np.zeros(len(PRIORS))

    def add(self, allowed: int, passed: int) -> None:
        asked = min(passed + 1, allowed, self.tried.shape[1])
        self.fade(_memories(asked))
        self.tried[:, :asked] += 1
        self.passed += min(passed, asked)

    def fade(self, memory: HostFloats | float) -> None:
        self.passed *= memory
        self.tried *= np.asarray(memory)[..., None]


@cache
def _memories(tokens: int) -> HostFloats:
    """[views]: of so many tokens after the next."""
    return np.asarray(MEMORIES**tokens)


def conditional(sequences: Sequence[Own], pool: HostFloats) -> HostFloats:
    """[views, sequences, positions]: the chance to pass each position, given that those before were passed."""
    tried = np.array([own.tried for own in sequences]).swapaxes(0, 1)  # [views, sequences, positions]
    passed = np.array([own.passed for own in sequences]).T
    priors = PRIORS[:, None]
    total = tried.sum(axis=2)
    expected = np.where(total > 0, (tried @ pool) / np.maximum(total, 1e-9), 0.5)
    found = (passed + priors * expected) / (total + priors)
    odds = (pool / (1 - pool)) * (found / (1 - found) * (1 - expected) / expected)[..., None]
    chances = odds / (1 + odds)
    chances[JUST_NOW] = found[JUST_NOW][:, None]
    return np.asarray(chances)


class Views:
    """Which way of looking at sequences foretells best."""

    def __init__(self) -> None:
        self.scores = np.zeros(len(PRIORS))

    @property
    def best(self) -> int:
        return int(self.scores.argmax())

    def learn(self, chances: HostFloats, allowed: int, passed: int) -> None:
        """Compare chances [views, positions] with what came."""
        self.scores *= SCORE_MEMORY
        passed = min(passed, chances.shape[1])
        self.scores += np.log(chances[:, :passed]).sum(axis=1)
        if passed < min(allowed, chances.shape[1]):
            self.scores += np.log(1 - chances[:, passed])
