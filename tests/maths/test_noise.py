"""The random numbers: uniform or exponential, and independent for different purposes.

Every statistical test here fails below p = 1e-6; the seeds are fixed.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from outrider.maths.noise import Purpose, RoundNoise, exponential, key, uniform

SUSPICIOUS = 1e-6
KEYS = 20_000
NUMPY_LIKE = np.empty(0, dtype=np.float32)

words = st.integers(0, 2**64 - 1)
# What may change from one key to the next, while all else stays.
NEIGHBOURS = {
    "seeds": lambda i: key(i, 5, 7, Purpose.DRAFT),
    "starts": lambda i: key(1, i, 7, Purpose.DRAFT),
    "positions": lambda i: key(1, 5, i, Purpose.DRAFT),
    "branches": lambda i: key(1, 5, 7, Purpose.DRAFT, branch=i),
    "distant seeds": lambda i: key(i << 40, 5, 7, Purpose.DRAFT),
}
# Two draws that must know nothing of each other, for many i.
RELATED = {
    "neighbouring seeds": lambda i: (key(i, 0, 3, Purpose.NEXT), key(i + 1, 0, 3, Purpose.NEXT)),
    "neighbouring positions": lambda i: (key(1, 0, i, Purpose.TARGET), key(1, 0, i + 1, Purpose.TARGET)),
    "position and seed swapped": lambda i: (key(i, 0, 7, Purpose.DRAFT), key(7, 0, i, Purpose.DRAFT)),
    "start and position swapped": lambda i: (key(1, i, 7, Purpose.DRAFT), key(1, 7, i, Purpose.DRAFT)),
    "two rounds": lambda i: (key(i, 4, 6, Purpose.DRAFT), key(i, 5, 6, Purpose.DRAFT)),
    "draft and next": lambda i: (key(i, 4, 4, Purpose.DRAFT), key(i, 4, 4, Purpose.NEXT)),
    "draft and target": lambda i: (key(i, 0, 4, Purpose.DRAFT), key(i, 0, 4, Purpose.TARGET)),
    "accept and next": lambda i: (key(i, 4, 4, Purpose.ACCEPT), key(i, 4, 4, Purpose.NEXT)),
    "siblings": lambda i: (key(i, 4, 4, Purpose.DRAFT, 0), key(i, 4, 4, Purpose.DRAFT, 1)),
}


def noise_of(keys, vocab_size: int) -> np.ndarray:
    return exponential(keys, vocab_size, NUMPY_LIKE)


@pytest.mark.parametrize("changing", NEIGHBOURS)
def test_uniform_numbers_are_uniform(changing: str) -> None:
    numbers = np.array([uniform(NEIGHBOURS[changing](i)) for i in range(KEYS)])
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert stats.kstest(numbers, "uniform").pvalue > SUSPICIOUS


@pytest.mark.parametrize("changing", NEIGHBOURS)
@pytest.mark.parametrize("token", [0, 1, 2, 49_151])
def test_the_noise_of_a_token_is_exponential_over_keys(changing: str, token: int) -> None:
    keys = [NEIGHBOURS[changing](i) for i in range(2000)]
    noise = np.concatenate([noise_of(keys[first : first + 100], token + 1)[:, token] for first in range(0, 2000, 100)])
    assert stats.kstest(noise, "expon").pvalue > SUSPICIOUS


@pytest.mark.parametrize("seed", range(5))
def test_the_noise_of_a_key_is_exponential_over_tokens(seed: int) -> None:
    noise = noise_of([key(seed, 0, seed, Purpose.TARGET)], 50_000)[0]
    assert stats.kstest(noise, "expon").pvalue > SUSPICIOUS


def test_the_smallest_noise_is_resolved_finely() -> None:
    """Who wins a race is decided by the smallest numbers: they must not be rounded to a grid."""
    smallest = np.sort(noise_of([key(0, 0, i, Purpose.TARGET) for i in range(20)], 100_000).ravel())[:2000]
    assert len(np.unique(smallest)) == 2000
    # The smallest of n standard exponentials, times n, come as a Poisson process.
    assert stats.kstest(np.diff(smallest) * 2_000_000, "expon").pvalue > SUSPICIOUS


@pytest.mark.parametrize("relation", RELATED)
def test_related_draws_are_uncorrelated(relation: str) -> None:
    pairs = [RELATED[relation](i) for i in range(KEYS)]
    first = np.array([uniform(pair[0]) for pair in pairs])
    second = np.array([uniform(pair[1]) for pair in pairs])
    assert stats.pearsonr(first, second).pvalue > SUSPICIOUS
    first_noise = noise_of([pair[0] for pair in pairs], 3)
    second_noise = noise_of([pair[1] for pair in pairs], 3)
    for token, other in product(range(3), repeat=2):
        assert stats.spearmanr(first_noise[:, token], second_noise[:, other]).pvalue > SUSPICIOUS


@pytest.mark.parametrize("relation", RELATED)
def test_related_races_agree_as_often_as_chance_has_it(relation: str) -> None:
    pairs = [RELATED[relation](i) for i in range(KEYS)]
    weights = np.array([0.4, 0.3, 0.2, 0.1], dtype=np.float32)
    winners = [(weights / noise_of([pair[side] for pair in pairs], 4)).argmax(axis=-1) for side in (0, 1)]
    agreed = int((winners[0] == winners[1]).sum())
    assert stats.binomtest(agreed, KEYS, float((weights**2).sum())).pvalue > SUSPICIOUS
    for side in (0, 1):
        assert stats.chisquare(np.bincount(winners[side], minlength=4), weights * KEYS).pvalue > SUSPICIOUS


@pytest.mark.parametrize("token, other", [(0, 1), (1, 2), (0, 2), (0, 256), (0, 4096), (5, 4101)])
def test_tokens_are_independent_of_each_other(token: int, other: int) -> None:
    noise = noise_of([key(2, 0, i, Purpose.TARGET) for i in range(2000)], max(token, other) + 1)
    assert stats.spearmanr(noise[:, token], noise[:, other]).pvalue > SUSPICIOUS


def test_uniform_and_exponential_numbers_of_one_key_are_independent() -> None:
    keys = [key(3, 0, i, Purpose.DRAFT) for i in range(KEYS)]
    noise = noise_of(keys, 3)
    for token in range(3):
        assert stats.spearmanr([uniform(one) for one in keys], noise[:, token]).pvalue > SUSPICIOUS


def test_keys_of_different_draws_differ() -> None:
    arguments = list(product(range(5), range(6), range(6), Purpose, range(5)))
    assert len({key(*one) for one in arguments}) == len(arguments)


@given(words, words, words, st.sampled_from(Purpose), st.integers(0, 2**32))
def test_a_key_is_two_words_of_32_bits_and_always_the_same(seed, start, position, purpose, branch) -> None:
    one = key(seed, start, position, purpose, branch)
    assert one == key(seed, start, position, purpose, branch)
    assert all(0 <= word < 2**32 for word in one)
    assert 0 <= uniform(one) < 1
    noise = noise_of([one], 4)
    assert ((noise > 0) & (noise < 17)).all()


def test_the_noise_of_a_round_is_new_in_every_round_unless_it_is_shared() -> None:
    first, second = RoundNoise(1, 4), RoundNoise(1, 5)
    assert first.draft(6) != second.draft(6)
    assert first.next(6) != second.next(6)
    assert first.accept(6) != second.accept(6)
    assert first.target(6) == second.target(6)
    shared = RoundNoise(1, 4, shared=True)
    assert shared.draft(6) == shared.target(6) == RoundNoise(1, 5, shared=True).draft(6, branch=3)


def test_branches_of_one_position_have_noise_of_their_own() -> None:
    noise = RoundNoise(1, 4)
    assert len({noise.draft(6, branch) for branch in range(20)}) == 20
    assert len({noise.accept(6, branch) for branch in range(20)}) == 20
    assert noise.draft(6) == noise.draft(6, branch=0)


def test_the_numbers_never_change() -> None:
    """Texts are reproducible from one version to the next: these values are part of the interface."""
    known = key(1, 2, 3, Purpose.DRAFT, branch=4)
    assert known == (227653297, 1116517576)
    assert uniform(known) == 0.6896369502296144
    np.testing.assert_allclose(noise_of([known], 3)[0], [0.22879626, 0.1228302, 0.16692914], rtol=1e-6)
