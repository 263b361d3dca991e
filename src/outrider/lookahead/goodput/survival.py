"""How far drafts survive: what all drafts say of each position, moved to where one sequence lies."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np

from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats, HostInts

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
IDLE_MEMORY = 0.995  # of what a sequence knows, per plain round: the text may have changed
ACCEPTED, DRAFTED = 0, 1  # what a token passes: the target's judgement, and the drafter's own, which may stop before it


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
        self._chances: dict[float, list[float]] = {}  # by hope

    def add(self, allowed: int, passed: int) -> None:
        """A draft of at most `allowed` tokens of which the first `passed` passed."""
        # Only what was asked again fades: the knowledge of long drafts stays while short ones are made.
        asked = min(passed + 1, allowed, len(self.tried))
        self._chances.clear()
        for position in range(asked):
            self.tried[position] = self.tried[position] * POOL_MEMORY + 1
            self.passed[position] = self.passed[position] * POOL_MEMORY + (position < passed)

    def chances(self, hope: float = 0.0) -> list[float]:
        """[positions]: the chance to pass each position, given that those before were passed.

        A position that was seldom tried leans on the one before it.

        Args:
            hope: by how many standard deviations of what was counted the chance may be better.
        """
        if hope not in self._chances:
            self._chances[hope] = self._estimate(hope)
        return self._chances[hope]

    def _estimate(self, hope: float) -> list[float]:
        chances = []
        before = OPTIMISM
        for tried, passed in zip(self.tried, self.passed, strict=True):
            before = chance = (passed + POOL_PRIOR * before) / (tried + POOL_PRIOR)
            if hope:
                chance += hope * math.sqrt(before * (1 - before) / (tried + 1))
            if not SMALLEST_CHANCE < chance < 1 - SMALLEST_CHANCE:
                chance = min(max(chance, SMALLEST_CHANCE), 1 - SMALLEST_CHANCE)
            chances.append(chance)
        return chances


class Survival:
    """What is known of the drafts of all sequences, and of each by itself, seen in each of the three ways.

    All of it lies in one block, a row for each sequence: NumPy takes as long for a few numbers as for some hundred.

    Args:
        positions: of the longest draft.
    """

    def __init__(self, positions: int) -> None:
        self._pools = Counts(positions), Counts(positions)
        self._positions = np.arange(positions)
        self._rows: dict[Hashable, int] = {}
        self._free = [0]
        # [rows, accepted or drafted, views, positions] and [rows, accepted or drafted, views]; as in Counts, but what
        # was passed counts for all positions together.
        self._tried = np.zeros((1, 2, len(PRIORS), positions))
        self._passed = np.zeros((1, 2, len(PRIORS)))
        # [1 + tokens, views]: what is remembered after so many tokens; after none, that is a round without a draft.
        self._memories = np.stack([np.full(len(PRIORS), IDLE_MEMORY), *(MEMORIES**n for n in range(1, positions + 1))])
        self._scores = np.zeros(len(PRIORS))
        self._foretold: dict[Hashable, HostFloats] = {}  # [views, positions], of each draft of the coming round

    def foretell(self, sequences: Sequence[Hashable]) -> tuple[HostFloats, HostFloats]:
        """S and D, [sequences, positions]: the chances that a draft is accepted, and drafted, up to each position."""
        chances = self._chances(sequences)
        self._foretold = dict(zip(sequences, chances[:, ACCEPTED], strict=True))
        reached = self._best_view(chances).cumprod(axis=2)
        return reached[:, ACCEPTED], np.maximum(reached[:, DRAFTED], reached[:, ACCEPTED])

    def accepted(self, sequences: Sequence[Hashable], hope: float = 0.0) -> HostFloats:
        """S alone, [sequences, positions], of drafts that are not going to be made.

        Args:
            hope: by how many standard deviations of what was counted of all sequences the chances may be better.
        """
        return np.asarray(self._best_view(self._chances(sequences, hope))[:, ACCEPTED].cumprod(axis=1))

    def _best_view(self, chances: HostFloats) -> HostFloats:
        """[sequences, accepted or drafted, positions]: by the way of looking that has foretold best."""
        return np.asarray(chances[:, :, self._scores.argmax()])

    def _chances(self, sequences: Sequence[Hashable], hope: float = 0.0) -> HostFloats:
        """[sequences, accepted or drafted, views, positions]: to pass each position, once those before were passed."""
        pools = np.array([pool.chances(hope) for pool in self._pools])
        rows = [self._row_of(sequence) for sequence in sequences]
        tried, passed = self._tried[rows], self._passed[rows]
        total = tried.sum(axis=3)
        expected = np.where(total > 0, (tried * pools[:, None]).sum(axis=3) / np.maximum(total, 1e-9), 0.5)
        found = (passed + PRIORS * expected) / (total + PRIORS)
        factors = found / (1 - found) * (1 - expected) / expected
        odds = (pools / (1 - pools))[:, None] * factors[..., None]
        chances = odds / (1 + odds)
        chances[:, :, JUST_NOW] = found[:, :, JUST_NOW, None]
        return np.asarray(chances)

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from a round, whether or not a sequence drafted in it."""
        rows = [self._row_of(outcome.sequence) for outcome in outcomes]
        if not any(outcome.planned for outcome in outcomes):
            self._tried[rows] *= IDLE_MEMORY
            self._passed[rows] *= IDLE_MEMORY
            return
        passed = np.array([(outcome.accepted, outcome.drafted) for outcome in outcomes])
        allowed = np.array([[min(outcome.planned, len(self._positions))] for outcome in outcomes])
        asked = np.minimum(passed + 1, allowed)
        was_asked = self._positions < asked[:, :, None]
        memory = self._memories[asked]
        self._tried[rows] = self._tried[rows] * memory[..., None] + was_asked[:, :, None]
        self._passed[rows] = self._passed[rows] * memory + np.minimum(passed, asked)[:, :, None]
        drafts = [place for place, outcome in enumerate(outcomes) if outcome.planned]
        if foretold := [place for place in drafts if outcomes[place].sequence in self._foretold]:
            chances = np.array([self._foretold[outcomes[place].sequence] for place in foretold])
            self._judge_views(chances, passed[foretold, ACCEPTED], asked[foretold, ACCEPTED])
        for place in drafts:
            self._pools[ACCEPTED].add(outcomes[place].planned, outcomes[place].accepted)
            self._pools[DRAFTED].add(outcomes[place].planned, outcomes[place].drafted)

    def _judge_views(self, chances: HostFloats, passed: HostInts, asked: HostInts) -> None:
        """How likely each way of looking took what came to be.

        Args:
            chances: [drafts, views, positions], as they were foretold.
            passed, asked: [drafts], how many positions passed, and of how many a draft tells that they did or did not.
        """
        came = np.where((self._positions < passed[:, None])[:, None], chances, 1 - chances)
        likelihoods = (np.log(came) * (self._positions < asked[:, None])[:, None]).sum(axis=2)
        memories = SCORE_MEMORY ** np.arange(len(passed), -1, -1)
        self._scores = memories @ np.concatenate([self._scores[None], likelihoods])

    def forget(self, sequence: Hashable) -> None:
        row = self._rows.pop(sequence, None)
        if row is not None:
            self._tried[row] = self._passed[row] = 0.0
            self._free.append(row)

    def _row_of(self, sequence: Hashable) -> int:
        if sequence not in self._rows:
            if not self._free:
                self._free = list(range(len(self._tried), 2 * len(self._tried)))
                self._tried = np.concatenate([self._tried, np.zeros_like(self._tried)])
                self._passed = np.concatenate([self._passed, np.zeros_like(self._passed)])
            self._rows[sequence] = self._free.pop()
        return self._rows[sequence]
