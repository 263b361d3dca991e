"""Draws from weights, and the weights of corrections, over every array library."""

import numpy as np
import pytest
from scipy import stats

from exactness.libraries import LIBRARIES, array_maker
from outrider.maths.arrays import to_numpy
from outrider.maths.draws import draw, draw_shared, normalised, probability, residual
from outrider.maths.noise import RoundNoise

P = np.array([0.5, 0.3, 0.2, 0.0], dtype=np.float32)
Q = np.array([0.2, 0.2, 0.1, 0.5], dtype=np.float32)
NOTHING = np.zeros(4, dtype=np.float32)
DRAWS = 4000
SUSPICIOUS = 1e-6  # the seeds are fixed


def key(number: int):
    return RoundNoise(seed=number, start=0).next(0)


@pytest.fixture(params=LIBRARIES)
def make(request):
    return array_maker(request.param)


def test_the_residual_is_what_p_has_beyond_q(make) -> None:
    found = residual(make(P), make(Q))
    np.testing.assert_allclose(to_numpy(found), [0.3, 0.1, 0.1, 0], atol=1e-6)
    np.testing.assert_allclose(to_numpy(normalised(found, otherwise=make(P))), [0.6, 0.2, 0.2, 0], atol=1e-6)


def test_an_empty_residual_falls_back_to_p(make) -> None:
    p = make(P)
    assert normalised(residual(p, p), otherwise=p) is p
    for number in range(20):
        assert draw(residual(p, p), key(number), otherwise=p) == draw(p, key(number))


def test_without_weights_and_without_others_there_is_no_token(make) -> None:
    assert draw(make(NOTHING), key(0)) == -1


@pytest.mark.parametrize("method", [draw, draw_shared])
@pytest.mark.parametrize("scale", [1, 7])
def test_tokens_are_drawn_in_proportion_to_their_weights(make, method, scale: int) -> None:
    weights = make(scale * P)
    counts = np.bincount([method(weights, key(number)) for number in range(DRAWS)], minlength=4)
    assert counts[3] == 0
    assert stats.chisquare(counts[:3], P[:3] * DRAWS).pvalue > SUSPICIOUS


@pytest.mark.parametrize("method", [draw, draw_shared])
def test_all_libraries_draw_the_same_token(make, method) -> None:
    for number in range(50):
        assert method(make(P), key(number)) == method(P, key(number))


def test_the_probability_of_a_token(make) -> None:
    assert [probability(make(P), token) for token in range(4)] == pytest.approx(P.tolist())
