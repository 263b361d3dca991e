"""How far drafts survive: the chances by position that all sequences share, corrected for each sequence."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import accumulate
from operator import mul

import numpy as np

from outrider.lookahead.goodput.counts import PositionCounts
from outrider.lookahead.goodput.estimators import (
    MEMORIES,
    Scores,
    chances,
    chances_of_many,
    correction,
    corrections,
)
from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats

IDLE_MEMORY = 0.995  # EMA decay of a sequence's own counts, per plain round: the text may have changed
ACCEPTED, DRAFTED = 0, 1  # what a token passes: the target's judgement, and the drafter's own decision to go on

Counts = list[list[list[float]]]  # [accepted or drafted, estimators, positions + 1], of one sequence


class Survival:
    """Estimates S and D: the chances that the draft of a sequence is accepted, and drafted, up to each position.

    Each estimator moves the chances that all sequences share by one factor on the odds, so that they fit what the
    sequence itself showed. The estimator with the highest log-likelihood so far is used.

    The counts lie in one block, a row for each sequence: NumPy takes as long for a few numbers as for some hundred. The
    counts of a sequence that drafts alone are lists: beside a model's passes NumPy's code comes from memory each time.

    Args:
        positions: of the longest draft.
    """

    def __init__(self, positions: int) -> None:
        self._pools = PositionCounts(positions), PositionCounts(positions)
        self._scores = Scores()
        self._positions = positions
        self._rows: dict[Hashable, int] = {}
        self._free = [0]
        # [rows, accepted or drafted, estimators, positions + 1]; like PositionCounts, the drafts that reached each
        # position, and last the tokens that passed, of all positions together.
        self._counts = np.zeros((1, 2, len(MEMORIES), positions + 1))
        self._alone: tuple[int, Counts] | None = None  # a row that is a list for now
        # [1 + tokens, estimators]: the decay after so many tokens; after none, that is after a plain round.
        self._decays = [[m**tokens if tokens else IDLE_MEMORY for m in MEMORIES] for tokens in range(1 + positions)]
        self._decay_table = np.array(self._decays)[..., None]
        self._tested = np.tri(1 + positions, 1 + positions, -1)  # [1 + tokens, positions + 1]: 1 up to so many tokens
        # For drafts of the coming round: the odds of all sequences, and each sequence's corrections [estimators].
        self._odds: list[float] = []
        self._predicted: dict[Hashable, list[float]] = {}

    def predict(self, sequences: Sequence[Hashable]) -> tuple[HostFloats, HostFloats]:
        """S and D, [sequences, positions], for drafts of the coming round."""
        passes, corrected = self._estimate(sequences)
        self._odds = self._pools[ACCEPTED].odds()
        self._predicted = dict(zip(sequences, corrected[:, ACCEPTED].tolist(), strict=True))
        reached = passes.cumprod(axis=2)
        return reached[:, ACCEPTED], np.maximum(reached[:, DRAFTED], reached[:, ACCEPTED])

    def predict_one(self, sequence: Hashable) -> tuple[list[float], list[float]]:
        """S and D, [positions], of a sequence that drafts alone in the coming round."""
        best = self._scores.best
        self._odds = self._pools[ACCEPTED].odds()
        own = [self._correction(sequence, ACCEPTED, estimator) for estimator in range(len(MEMORIES))]
        self._predicted = {sequence: own}
        survives = list(accumulate(chances(best, self._odds, own[best]), mul))
        goes_on = chances(best, self._pools[DRAFTED].odds(), self._correction(sequence, DRAFTED, best))
        return survives, list(map(max, accumulate(goes_on, mul), survives))

    def accepted(self, sequences: Sequence[Hashable], hope: float = 0.0) -> HostFloats:
        """S, [sequences, positions], for drafts that are only considered.

        Args:
            hope: an optimism bonus, in standard deviations of what all sequences share.
        """
        return np.asarray(self._estimate(sequences, hope)[0][:, ACCEPTED].cumprod(axis=1))

    def accepted_one(self, sequence: Hashable, hope: float) -> list[float]:
        """The same, [positions], of a sequence that would draft alone."""
        best = self._scores.best
        own = self._correction(sequence, ACCEPTED, best, hope)
        return list(accumulate(chances(best, self._pools[ACCEPTED].odds(hope), own), mul))

    def _estimate(self, sequences: Sequence[Hashable], hope: float = 0.0) -> tuple[HostFloats, HostFloats]:
        """The chances to pass a position after passing those before, [sequences, accepted or drafted, positions], by
        the best estimator; and the corrections of all, [sequences, accepted or drafted, estimators]."""
        pools = np.array([pool.chances(hope) for pool in self._pools])
        rows = self._rows_of(sequences)
        counts = self._counts[rows]
        tried, passed = counts[..., :-1], counts[..., -1]
        corrected = corrections(passed, tried.sum(axis=3), (tried * pools[:, None]).sum(axis=3))
        best = self._scores.best
        return chances_of_many(best, pools / (1 - pools), corrected[:, :, best, None]), corrected

    def _correction(self, sequence: Hashable, kind: int, estimator: int, hope: float = 0.0) -> float:
        *tried, passed = self._counts_alone(sequence)[kind][estimator]
        expected = sum(map(mul, tried, self._pools[kind].chances(hope)))
        return correction(estimator, passed, sum(tried), expected)

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from a round, whether or not a sequence drafted in it."""
        if len(outcomes) == 1:
            self._learn_one(outcomes[0])
        else:
            self._learn_many(outcomes)
        for outcome in outcomes:
            if outcome.planned:
                self._pools[ACCEPTED].add(outcome.planned, outcome.accepted)
                self._pools[DRAFTED].add(outcome.planned, outcome.drafted)

    def _learn_one(self, outcome: Outcome) -> None:
        counts = self._counts_alone(outcome.sequence)
        allowed = min(outcome.planned, self._positions)
        for estimators, passed in zip(counts, (outcome.accepted, outcome.drafted), strict=True):
            tested = min(passed + 1, allowed)
            for place, decay in enumerate(self._decays[tested]):
                faded = [count * decay for count in estimators[place]]
                faded[:tested] = [count + 1 for count in faded[:tested]]
                faded[-1] += min(passed, tested)
                estimators[place] = faded
        if allowed and outcome.sequence in self._predicted:
            tested = min(outcome.accepted + 1, allowed)
            self._scores.add(self._odds, self._predicted[outcome.sequence], outcome.accepted, tested)

    def _learn_many(self, outcomes: Sequence[Outcome]) -> None:
        rows = self._rows_of([outcome.sequence for outcome in outcomes])
        if not any(outcome.planned for outcome in outcomes):
            self._counts[rows] *= IDLE_MEMORY
            return
        passed = np.array([(outcome.accepted, outcome.drafted) for outcome in outcomes])
        allowed = np.minimum([outcome.planned for outcome in outcomes], self._positions)
        tested = np.minimum(passed + 1, allowed[:, None])
        learned = self._tested[tested]
        learned[..., -1] = np.minimum(passed, tested)
        self._counts[rows] = self._counts[rows] * self._decay_table[tested] + learned[:, :, None]
        known = self._predicted
        if drafts := [row for row, each in enumerate(outcomes) if each.planned and each.sequence in known]:
            own = [known[outcomes[row].sequence] for row in drafts]
            self._scores.add_many(self._odds, own, passed[drafts, ACCEPTED], tested[drafts, ACCEPTED])

    def forget(self, sequence: Hashable) -> None:
        """The sequence has ended; its row is free for another."""
        row = self._rows.pop(sequence, None)
        if row is not None:
            self._put_back()
            self._counts[row] = 0.0
            self._free.append(row)

    def _counts_alone(self, sequence: Hashable) -> Counts:
        """The row of a sequence that drafts alone, as lists, which may be changed."""
        row = self._row_of(sequence)
        if self._alone is None or self._alone[0] != row:
            self._put_back()
            self._alone = row, self._counts[row].tolist()
        return self._alone[1]

    def _put_back(self) -> None:
        """All rows are in the block again."""
        if self._alone is not None:
            row, counts = self._alone
            self._counts[row] = counts
            self._alone = None

    def _rows_of(self, sequences: Sequence[Hashable]) -> list[int]:
        self._put_back()
        return [self._row_of(sequence) for sequence in sequences]

    def _row_of(self, sequence: Hashable) -> int:
        row = self._rows.get(sequence)
        if row is None:
            if not self._free:
                self._free = list(range(len(self._counts), 2 * len(self._counts)))
                self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            row = self._rows[sequence] = self._free.pop()
        return row
