"""How far drafts survive: the chances by position that all sequences share, corrected for each sequence."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np

from outrider.lookahead.goodput.counts import PositionCounts
from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats

# Three estimators compete. The first takes a sequence for one of many that are alike, the second for one of its own
# kind, the third looks at its last few tokens only and has one chance for all positions.
PRIORS = 60.0, 4.0, 2.0  # pseudo-counts: drafted tokens that the chances of all sequences are worth
MEMORIES = 0.995, 0.97, 0.9  # EMA decay of a sequence's own counts, per token
RECENT = 2  # the third of them
SCORE_MEMORY = 0.99  # EMA decay of the estimators' log-likelihoods, per draft
IDLE_MEMORY = 0.995  # EMA decay of a sequence's own counts, per plain round: the text may have changed
ACCEPTED, DRAFTED = 0, 1  # what a token passes: the target's judgement, and the drafter's own decision to go on
NO_COUNT = 1e-300  # counts that change no other count, so that a sequence without any expects a half


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
        self._positions = positions
        self._rows: dict[Hashable, int] = {}
        self._free = [0]
        # [rows, accepted or drafted, estimators, positions + 1]; like PositionCounts, the drafts that reached each
        # position, and last the tokens that passed, of all positions together.
        self._counts = np.zeros((1, 2, len(PRIORS), positions + 1))
        self._alone: tuple[int, list[list[list[float]]]] | None = None  # the row of a sequence that drafts alone
        # [1 + tokens, estimators]: the decay after so many tokens; after none, that is after a plain round.
        decays = [[memory**tokens if tokens else IDLE_MEMORY for memory in MEMORIES] for tokens in range(1 + positions)]
        self._decays, self._decay_table = decays, np.array(decays)[..., None]
        self._tested = np.tri(1 + positions, 1 + positions, -1)  # [1 + tokens, positions + 1]: 1 up to so many tokens
        self._scores = [0.0] * len(PRIORS)  # log-likelihoods
        # For drafts of the coming round: the odds of all sequences, and each sequence's corrections [estimators].
        self._odds: list[float] = []
        self._predicted: dict[Hashable, list[float]] = {}

    def predict(self, sequences: Sequence[Hashable]) -> tuple[HostFloats, HostFloats]:
        """S and D, [sequences, positions], for drafts of the coming round."""
        chances, corrections = self._estimate(sequences)
        self._odds = self._pools[ACCEPTED].odds()
        self._predicted = dict(zip(sequences, corrections[:, ACCEPTED].tolist(), strict=True))
        reached = chances.cumprod(axis=2)
        return reached[:, ACCEPTED], np.maximum(reached[:, DRAFTED], reached[:, ACCEPTED])

    def predict_one(self, sequence: Hashable) -> tuple[list[float], list[float]]:
        """S and D, [positions], of a sequence that drafts alone in the coming round."""
        best = self._best
        self._odds = self._pools[ACCEPTED].odds()
        corrections = [self._correction(sequence, ACCEPTED, estimator) for estimator in range(len(PRIORS))]
        self._predicted = {sequence: corrections}
        survives = list(accumulate(_chances(best, self._odds, corrections[best]), mul))
        stopping = _chances(best, self._pools[DRAFTED].odds(), self._correction(sequence, DRAFTED, best))
        return survives, list(map(max, accumulate(stopping, mul), survives))

    def accepted_one(self, sequence: Hashable, hope: float) -> list[float]:
        """S, [positions], as `accepted` for a sequence that would draft alone."""
        correction = self._correction(sequence, ACCEPTED, self._best, hope)
        return list(accumulate(_chances(self._best, self._pools[ACCEPTED].odds(hope), correction), mul))

    def accepted(self, sequences: Sequence[Hashable], hope: float = 0.0) -> HostFloats:
        """S, [sequences, positions], for drafts that are only considered.

        Args:
            hope: an optimism bonus, in standard deviations of what all sequences share.
        """
        return np.asarray(self._estimate(sequences, hope)[0][:, ACCEPTED].cumprod(axis=1))

    @property
    def _best(self) -> int:
        """The estimator with the highest score."""
        return self._scores.index(max(self._scores))

    def _estimate(self, sequences: Sequence[Hashable], hope: float = 0.0) -> tuple[HostFloats, HostFloats]:
        """By the best estimator, [sequences, accepted or drafted, positions]: the chance to pass a position after
        passing those before. And all corrections, [sequences, accepted or drafted, estimators]."""
        pools = np.array([pool.chances(hope) for pool in self._pools])
        rows = self._rows_of(sequences)
        counts = self._counts[rows]
        tried, passed = counts[..., :-1], counts[..., -1]
        found, corrections = _found(passed, tried.sum(axis=3), (tried * pools[:, None]).sum(axis=3), np.array(PRIORS))
        corrections[:, :, RECENT] = found[:, :, RECENT]
        best = self._best
        if best == RECENT:
            return np.broadcast_to(found[:, :, RECENT, None], (*found.shape[:2], self._positions)), corrections
        return _moved(pools / (1 - pools), corrections[:, :, best, None]), corrections

    def _correction(self, sequence: Hashable, kind: int, estimator: int, hope: float = 0.0) -> float:
        """How an estimator corrects the chances of all sequences for one that drafts alone."""
        *tried, passed = self._counts_alone(sequence)[kind][estimator]
        expected = sum(map(mul, tried, self._pools[kind].chances(hope)))
        return float(_found(passed, sum(tried), expected, PRIORS[estimator])[estimator != RECENT])

    def learn(self, outcomes: Sequence[Outcome]) -> None:
        """Learn from a round, whether or not a sequence drafted in it."""
        if len(outcomes) == 1:
            self._count_one(outcomes[0])
        else:
            self._count_many(outcomes)
        drafts = [outcome for outcome in outcomes if outcome.planned]
        for outcome in drafts:
            if outcome.sequence in self._predicted:
                self._score(self._predicted[outcome.sequence], outcome.accepted, outcome.planned)
        for outcome in drafts:
            self._pools[ACCEPTED].add(outcome.planned, outcome.accepted)
            self._pools[DRAFTED].add(outcome.planned, outcome.drafted)

    def _count_one(self, outcome: Outcome) -> None:
        counts = self._counts_alone(outcome.sequence)
        for estimators, passed in zip(counts, (outcome.accepted, outcome.drafted), strict=True):
            tested = self._tested_by(outcome, passed)
            for place, decay in enumerate(self._decays[tested]):
                faded = [count * decay for count in estimators[place]]
                faded[:tested] = [count + 1 for count in faded[:tested]]
                faded[-1] += min(passed, tested)
                estimators[place] = faded

    def _count_many(self, outcomes: Sequence[Outcome]) -> None:
        rows = self._rows_of([outcome.sequence for outcome in outcomes])
        if not any(outcome.planned for outcome in outcomes):
            self._counts[rows] *= IDLE_MEMORY
            return
        tested = [
            (self._tested_by(outcome, outcome.accepted), self._tested_by(outcome, outcome.drafted))
            for outcome in outcomes
        ]
        passed = [
            (min(outcome.accepted, accepted), min(outcome.drafted, drafted))
            for outcome, (accepted, drafted) in zip(outcomes, tested, strict=True)
        ]
        learned = self._tested[tested]
        learned[..., -1] = passed
        self._counts[rows] = self._counts[rows] * self._decay_table[tested] + learned[:, :, None]

    def _tested_by(self, outcome: Outcome, passed: int) -> int:
        """Of how many positions a draft tells whether they passed."""
        return min(passed + 1, outcome.planned, self._positions)

    def _score(self, corrections: list[float], passed: int, allowed: int) -> None:
        """Add the log-likelihood of an outcome under each estimator to its score.

        Args:
            corrections: [estimators], as predicted.
            passed: how many positions passed.
            allowed: how many the draft could pass.
        """
        tested = self._odds[: min(passed + 1, allowed)]
        for estimator, correction in enumerate(corrections):
            chances = _chances(estimator, tested, correction)
            likely = chances[:passed] + [1 - chance for chance in chances[passed:]]
            self._scores[estimator] = SCORE_MEMORY * self._scores[estimator] + sum(map(math.log, likely))

    def forget(self, sequence: Hashable) -> None:
        """The sequence has ended; its row is free for another."""
        row = self._rows.pop(sequence, None)
        if row is not None:
            self._put_back()
            self._counts[row] = 0.0
            self._free.append(row)

    def _counts_alone(self, sequence: Hashable) -> list[list[list[float]]]:
        """The row of a sequence that drafts alone, as lists, which may be changed."""
        row = self._row_of(sequence)
        if self._alone is None or self._alone[0] != row:
            self._put_back()
            self._alone = row, self._counts[row].tolist()
        return self._alone[1]

    def _put_back(self) -> None:
        """No sequence drafts alone any more."""
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


def _found(passed: Any, tried: Any, expected: Any, prior: Any) -> tuple[Any, Any]:
    """The chance that a sequence showed, and the factor on the odds by which all sequences' chances get there; of
    numbers, or arrays of them.

    Args:
        passed, tried: tokens.
        expected: how many of the tried ones pass if the sequence is like all others.
    """
    usual = (expected + 0.5 * NO_COUNT) / (tried + NO_COUNT)
    found = (passed + prior * usual) / (tried + prior)
    return found, found / (1 - found) * (1 - usual) / usual


def _moved(odds: Any, factor: Any) -> Any:
    """Chances whose odds are moved by a factor; numbers, or arrays of them."""
    moved = odds * factor
    return moved / (1 + moved)


def _chances(estimator: int, odds: Sequence[float], correction: float) -> list[float]:
    """The chances of an estimator, given the odds of all sequences."""
    if estimator == RECENT:
        return [correction] * len(odds)
    return [_moved(each, correction) for each in odds]
