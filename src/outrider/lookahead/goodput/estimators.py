"""Three estimators of how one sequence differs from all others, and which of them has been right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from outrider.maths.arrays import HostFloats, HostInts

# The first takes a sequence for one of many that are alike, the second for one of its own kind, the third looks at its
# last few tokens only and has one chance for all positions.
PRIORS = 60.0, 4.0, 2.0  # pseudo-counts: drafted tokens that the chances of all sequences are worth
MEMORIES = 0.995, 0.97, 0.9  # EMA decay of a sequence's own counts, per token
RECENT = 2  # the third of them
SCORE_MEMORY = 0.99  # EMA decay of the estimators' log-likelihoods, per draft
NO_COUNT = 1e-300  # a count that changes no other; a sequence without any expects a half


def correction(estimator: int, passed: float, tried: float, expected: float) -> float:
    """What an estimator makes of a sequence: a factor on the odds of all sequences, or by RECENT a chance.

    Args:
        passed, tried: its tokens.
        expected: how many of the tried ones pass if it is like all others.
    """
    found, factor = _found(passed, tried, expected, PRIORS[estimator])
    return float(found if estimator == RECENT else factor)


def corrections(passed: HostFloats, tried: HostFloats, expected: HostFloats) -> HostFloats:
    """The same of all estimators, [..., estimators]."""
    found, factors = _found(passed, tried, expected, np.array(PRIORS))
    factors[..., RECENT] = found[..., RECENT]
    return np.asarray(factors)


def chances(estimator: int, odds: Sequence[float], own: float) -> list[float]:
    """[positions]: the chances of a sequence.

    Args:
        odds: of all sequences.
        own: the correction.
    """
    if estimator == RECENT:
        return [own] * len(odds)
    return [_moved(each, own) for each in odds]


def chances_of_many(estimator: int, odds: HostFloats, own: HostFloats) -> HostFloats:
    """The same of many sequences, [..., positions].

    Args:
        own: [..., 1].
    """
    return np.asarray(own + 0.0 * odds if estimator == RECENT else _moved(odds, own))


class Scores:
    """The log-likelihoods of all drafts so far, under each estimator; old drafts fade (EMA)."""

    def __init__(self) -> None:
        self._scores = [0.0] * len(PRIORS)

    @property
    def best(self) -> int:
        """The estimator with the highest one."""
        return self._scores.index(max(self._scores))

    def add(self, odds: Sequence[float], own: Sequence[float], passed: int, tested: int) -> None:
        """Learn from a draft.

        Args:
            odds: [positions], of all sequences, as they were before.
            own: [estimators], the corrections as they were before.
            passed: how many positions passed.
            tested: of how many the draft tells whether they passed.
        """
        for estimator, each in enumerate(own):
            likely = chances(estimator, odds[:tested], each)
            likely[passed:] = [1 - chance for chance in likely[passed:]]
            self._scores[estimator] = SCORE_MEMORY * self._scores[estimator] + sum(map(math.log, likely))

    def add_many(
        self, odds: Sequence[float], own: Sequence[Sequence[float]], passed: HostInts, tested: HostInts
    ) -> None:
        """The same for drafts one after the other, the first dimension of `own`, `passed` and `tested`."""
        corrected = np.array(own)[..., None]
        likely = np.asarray(_moved(np.array(odds), corrected))  # [drafts, estimators, positions]
        likely[:, RECENT] = corrected[:, RECENT]
        positions = np.arange(len(odds))
        likely = np.where(positions < passed[:, None, None], likely, 1 - likely)
        likelihoods = (np.log(likely) * (positions < tested[:, None, None])).sum(axis=2)
        fading = SCORE_MEMORY ** np.arange(len(passed), -1, -1)
        self._scores = (fading @ np.concatenate([[self._scores], likelihoods])).tolist()


def _found(passed: Any, tried: Any, expected: Any, prior: Any) -> tuple[Any, Any]:
    """The chance that a sequence showed, and the factor by which the odds of all sequences get there; of numbers, or
    of arrays of them."""
    usual = (expected + 0.5 * NO_COUNT) / (tried + NO_COUNT)
    found = (passed + prior * usual) / (tried + prior)
    return found, found / (1 - found) * (1 - usual) / usual


def _moved(odds: Any, factor: Any) -> Any:
    """The chances whose odds are these, times a factor; numbers, or arrays of them."""
    moved = odds * factor
    return moved / (1 + moved)
