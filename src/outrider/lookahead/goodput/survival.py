"""How far drafts survive: the chances by position that all sequences share, corrected for each sequence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.lookahead.goodput.counts import PositionCounts
from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats, HostInts

# Three estimators compete. The first takes a sequence for one of many that are alike, the second for one of its own
# kind, the third looks at its last few tokens only and has one chance for all positions.
PRIORS = np.array([60.0, 4.0, 2.0])  # pseudo-counts: drafted tokens that the chances of all sequences are worth
MEMORIES = np.array([0.995, 0.97, 0.9])  # EMA decay of a sequence's own counts, per token
RECENT = 2  # the third of them
SCORE_MEMORY = 0.99  # EMA decay of the estimators' log-likelihoods, per draft
IDLE_MEMORY = 0.995  # EMA decay of a sequence's own counts, per plain round: the text may have changed
ACCEPTED, DRAFTED = 0, 1  # what a token passes: the target's judgement, and the drafter's own decision to go on


class Survival:
    """Estimates S and D: the chances that the draft of a sequence is accepted, and drafted, up to each position.

    Each estimator moves the chances that all sequences share by one factor on the odds, so that they fit what the
    sequence itself showed. The estimator with the highest log-likelihood so far is used.

    All of it lies in one block, a row for each sequence: NumPy takes as long for a few numbers as for some hundred.

    Args:
        positions: of the longest draft.
    """

    def __init__(self, positions: int) -> None:
        self._pools = PositionCounts(positions), PositionCounts(positions)
        self._positions = np.arange(positions)
        self._rows: dict[Hashable, int] = {}
        self._free = [0]
        # [rows, accepted or drafted, estimators, positions] and [rows, accepted or drafted, estimators]; like
        # PositionCounts, but `passed` counts all positions together.
        self._tried = np.zeros((1, 2, len(PRIORS), positions))
        self._passed = np.zeros((1, 2, len(PRIORS)))
        # [1 + tokens, estimators]: the decay after so many tokens; after none, that is after a plain round.
        self._memories = np.stack([np.full(len(PRIORS), IDLE_MEMORY), *(MEMORIES**n for n in range(1, positions + 1))])
        self._scores = np.zeros(len(PRIORS))  # log-likelihoods
        # [sequences, estimators, positions], for drafts of the coming round, and where each sequence stands in it.
        self._predicted = np.zeros((0, len(PRIORS), positions))
        self._places: dict[Hashable, int] = {}

    def predict(self, sequences: Sequence[Hashable]) -> tuple[HostFloats, HostFloats]:
        """S and D, [sequences, positions], for drafts of the coming round."""
        chances = self._chances(sequences)
        self._predicted = chances[:, ACCEPTED]
        self._places = {sequence: place for place, sequence in enumerate(sequences)}
        reached = self._by_best_estimator(chances).cumprod(axis=2)
        return reached[:, ACCEPTED], np.maximum(reached[:, DRAFTED], reached[:, ACCEPTED])

    def accepted(self, sequences: Sequence[Hashable], hope: float = 0.0) -> HostFloats:
        """S, [sequences, positions], for drafts that are only considered.

        Args:
            hope: an optimism bonus, in standard deviations of what all sequences share.
        """
        return np.asarray(self._by_best_estimator(self._chances(sequences, hope))[:, ACCEPTED].cumprod(axis=1))

    def _by_best_estimator(self, chances: HostFloats) -> HostFloats:
        """[sequences, accepted or drafted, positions]."""
        return np.asarray(chances[:, :, self._scores.argmax()])

    def _chances(self, sequences: Sequence[Hashable], hope: float = 0.0) -> HostFloats:
        """[sequences, accepted or drafted, estimators, positions]: to pass a position after passing those before."""
        pools = np.array([pool.chances(hope) for pool in self._pools])
        rows = [self._row_of(sequence) for sequence in sequences]
        tried, passed = self._tried[rows], self._passed[rows]
        total = tried.sum(axis=3)
        expected = np.where(total > 0, (tried * pools[:, None]).sum(axis=3) / np.maximum(total, 1e-9), 0.5)
        found = (passed + PRIORS * expected) / (total + PRIORS)
        factors = found / (1 - found) * (1 - expected) / expected
        odds = (pools / (1 - pools))[:, None] * factors[..., None]
        chances = odds / (1 + odds)
        chances[:, :, RECENT] = found[:, :, RECENT, None]
        return np.asarray(chances)

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from a round, whether or not a sequence drafted in it."""
        rows = [self._row_of(outcome.sequence) for outcome in outcomes]
        if not any(outcome.planned for outcome in outcomes):
            self._tried[rows] *= IDLE_MEMORY
            self._passed[rows] *= IDLE_MEMORY
            return
        passed = np.array([(outcome.accepted, outcome.drafted) for outcome in outcomes])
        allowed = np.minimum([outcome.planned for outcome in outcomes], len(self._positions))
        tested = np.minimum(passed + 1, allowed[:, None])
        was_tested = self._positions < tested[:, :, None]
        memory = self._memories[tested]
        self._tried[rows] = self._tried[rows] * memory[..., None] + was_tested[:, :, None]
        self._passed[rows] = self._passed[rows] * memory + np.minimum(passed, tested)[:, :, None]
        drafts = [place for place, outcome in enumerate(outcomes) if outcome.planned]
        if predicted := [place for place in drafts if outcomes[place].sequence in self._places]:
            chances = self._predicted[[self._places[outcomes[place].sequence] for place in predicted]]
            self._score(chances, passed[predicted, ACCEPTED], tested[predicted, ACCEPTED])
        for place in drafts:
            self._pools[ACCEPTED].add(outcomes[place].planned, outcomes[place].accepted)
            self._pools[DRAFTED].add(outcomes[place].planned, outcomes[place].drafted)

    def _score(self, chances: HostFloats, passed: HostInts, tested: HostInts) -> None:
        """Add the log-likelihood of the outcomes under each estimator to its score.

        Args:
            chances: [drafts, estimators, positions], as predicted.
            passed: [drafts], how many positions passed.
            tested: [drafts], of how many positions a draft tells whether they passed.
        """
        likely = np.where((self._positions < passed[:, None])[:, None], chances, 1 - chances)
        likelihoods = (np.log(likely) * (self._positions < tested[:, None])[:, None]).sum(axis=2)
        memories = SCORE_MEMORY ** np.arange(len(passed), -1, -1)
        self._scores = memories @ np.concatenate([self._scores[None], likelihoods])

    def forget(self, sequence: Hashable) -> None:
        """The sequence has ended; its row is free for another."""
        row = self._rows.pop(sequence, None)
        if row is not None:
            self._tried[row] = self._passed[row] = 0.0
            self._free.append(row)

    def _row_of(self, sequence: Hashable) -> int:
        row = self._rows.get(sequence)
        if row is None:
            if not self._free:
                self._free = list(range(len(self._tried), 2 * len(self._tried)))
                self._tried = np.concatenate([self._tried, np.zeros_like(self._tried)])
                self._passed = np.concatenate([self._passed, np.zeros_like(self._passed)])
            row = self._rows[sequence] = self._free.pop()
        return row
