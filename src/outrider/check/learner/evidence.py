"""How far counts may stray from a law, and which of several laws fits them best.

False alarms. Every test is of one count: out of n independent calls, in how many did this happen? Chernoff's bound,
P(count / n at least as far from chance on its side) <= exp(-n KL(count / n, chance)), holds for every n. A count is
called wrong where twice this bound is below FALSE_ALARMS / MOST_TESTS.

Other tests are of one known mistake each: how much more likely are all counts under its law than under the right one?
Under the right one the expectation of this ratio is 1, so by Markov's inequality it is above x with a chance of at most
1 / x. This finds what moves many counts a little, such as a temperature.

A run makes fewer than MOST_TESTS tests. So by the union bound a right file is called wrong in less than FALSE_ALARMS of
runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from outrider.maths.arrays import HostFloats

FALSE_ALARMS = 1e-6
MOST_TESTS = 3000
THRESHOLD = math.log(FALSE_ALARMS / MOST_TESTS)
# A known mistake explains counts that are no stranger under it than this.
EXPLAINED = math.log(1e-5)
# What rounding may do to a chance: float32 uniforms and cumulative sums.
ROUNDING = 1e-6
SMOOTHING = 1e-4
EQUAL = 1e-3  # of log likelihoods
FITTED = 6.0  # what a law with a fitted number must be better by, in log likelihood


def log_bound(count: float, trials: float, chance: float) -> float:
    """The logarithm of twice Chernoff's bound, at most 0."""
    if not trials:
        return 0.0
    rate, chance = count / trials, min(max(chance, ROUNDING), 1 - ROUNDING)
    divergence = (rate * math.log(rate / chance) if rate else 0.0) + (
        (1 - rate) * math.log((1 - rate) / (1 - chance)) if rate < 1 else 0.0
    )
    return min(0.0, math.log(2) - trials * divergence)


@dataclass(frozen=True, slots=True)
class Strange:
    """A group of counts of which one is too far from its chance.

    Attributes:
        group, outcome: where.
        counts: of the whole group.
        chances: what they should be.
        bound: logarithm of the chance of a right file to get that far.
    """

    group: int
    outcome: int
    counts: HostFloats
    chances: HostFloats
    bound: float

    @property
    def trials(self) -> int:
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True)
class Law:
    """What a known mistake does to counts.

    Attributes:
        mistake: its key.
        detail: what is more exactly known of it, in words.
        chances: [groups, outcomes].
    """

    mistake: str
    detail: str
    chances: HostFloats


def strangest(counts: HostFloats, chances: HostFloats, threshold: float = THRESHOLD) -> Strange | None:
    """The first group [groups, outcomes] with a count too far from its chance, at its strangest outcome."""
    for group in range(len(counts)):
        trials = counts[group].sum()
        bounds = [log_bound(count, trials, chance) for count, chance in zip(counts[group], chances[group], strict=True)]
        outcome = int(np.argmin(bounds))
        if bounds[outcome] < threshold:
            return Strange(group, outcome, counts[group], chances[group], bounds[outcome])
    return None


def tests_of(counts: HostFloats) -> int:
    """How many tests `strangest` makes."""
    return int(counts.size)


def log_ratio(counts: HostFloats, law: HostFloats, right: HostFloats) -> float:
    """How much likelier independent groups of counts are under a law than under the right one, as a logarithm."""
    return float((counts * (np.log(smoothed(law)) - np.log(np.maximum(right, ROUNDING)))).sum())


def smoothed(chances: HostFloats) -> HostFloats:
    """Nothing is impossible."""
    return np.asarray((1 - SMOOTHING) * normalised(chances) + SMOOTHING / chances.shape[1])


def normalised(chances: HostFloats) -> HostFloats:
    """Each group sums to 1; where all mass is missing, outcomes are equal."""
    sums = chances.sum(axis=1, keepdims=True)
    return np.asarray(np.where(sums > 0, chances / np.maximum(sums, ROUNDING), 1 / chances.shape[1]))


def unlikely(counts: HostFloats, laws: Sequence[Law], right: HostFloats) -> Strange | None:
    """What is strangest, where a known mistake is much likelier than the right law.

    The groups must be independent of one another.
    """
    if max(log_ratio(counts, law.chances, right) for law in laws) < -THRESHOLD:
        return None
    strange = [strangest(counts[group : group + 1], right[group : group + 1], math.inf) for group in range(len(counts))]
    found = min((each for each in strange if each is not None), key=lambda each: each.bound)
    group = next(number for number, each in enumerate(strange) if each is found)
    return replace(found, group=group)


def explanation(counts: HostFloats, laws: Iterable[Law]) -> Law | None:
    """The law with the largest likelihood, if the counts are not strange under it; of equal ones the first."""
    found: Sequence[Law] = list(laws)
    if not found:
        return None
    smooth = [smoothed(law.chances) for law in found]
    likelihoods = [
        float((counts * np.log(chances)).sum()) - FITTED * ("temperature of" in law.detail)
        for law, chances in zip(found, smooth, strict=True)
    ]
    best = next(number for number, each in enumerate(likelihoods) if each >= max(likelihoods) - EQUAL)
    return found[best] if strangest(counts, smooth[best], EXPLAINED) is None else None
