"""Distributions of a draft say the same whether they lie ready or are computed when they are read."""

import numpy as np
import pytest

from exactness.libraries import LIBRARIES, array_maker
from outrider.maths.arrays import to_numpy
from outrider.maths.distributions import AllAtOnce, Distributions, OnDemand
from outrider.maths.noise import RoundNoise

ROWS = 4
P = np.random.default_rng(0).dirichlet(np.ones(9), ROWS).astype(np.float32)
KINDS = {"all at once": AllAtOnce, "on demand": lambda p: OnDemand(len(p), p.__getitem__)}


def key_of(row: int):
    return RoundNoise(seed=7, start=3).target(row)


@pytest.fixture(params=LIBRARIES)
def make(request):
    return array_maker(request.param)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_probabilities_and_races_are_those_of_the_array(make, kind: str) -> None:
    distributions: Distributions = KINDS[kind](make(P))
    assert len(distributions) == ROWS
    np.testing.assert_array_equal([to_numpy(distributions[row]) for row in range(ROWS)], P)
    found = distributions.probabilities([2, 0, 2], [1, 8, 0])
    assert [found[i] for i in range(len(found))] == pytest.approx([P[2, 1], P[0, 8], P[2, 0]])
    races, expected = distributions.races(key_of), AllAtOnce(P).races(key_of)
    assert [races[row] for row in range(len(races))] == [expected[row] for row in range(ROWS)]


@pytest.mark.parametrize("kind", KINDS)
def test_no_probabilities_are_asked_for_without_a_draft(make, kind: str) -> None:
    assert len(KINDS[kind](make(P)).probabilities([], [])) == 0


def test_a_row_is_computed_when_it_is_read_and_only_once() -> None:
    made = []

    def compute(row: int) -> np.ndarray:
        made.append(row)
        return P[row]

    distributions = OnDemand(ROWS, compute)
    probabilities = distributions.probabilities([0, 2, 2], [1, 1, 2])
    races = distributions.races(key_of)
    assert made == []
    assert probabilities[1] == P[2, 1]
    assert made == [2]
    assert probabilities[2] == P[2, 2]
    assert races[2] == AllAtOnce(P).races(key_of)[2]
    np.testing.assert_array_equal(distributions[2], P[2])
    assert made == [2]
    assert races[1] == races[1]
    assert made == [2, 1]
