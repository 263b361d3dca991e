"""The yardstick itself."""

import math
from collections import Counter

import numpy as np
import pytest

from exactness.statistics import (
    ALL_DRAWS,
    IMPOSSIBLE,
    STAGES,
    THRESHOLD,
    Outcome,
    joint_distribution,
    p_of_stages,
    p_value,
    reference_distribution,
)
from outrider import SamplingParams, TableModel

LOGITS = np.log([0.5, 0.25, 0.15, 0.1])


@pytest.mark.parametrize(
    "sampling, weights",
    [
        (SamplingParams(), [0.5, 0.25, 0.15, 0.1]),
        (SamplingParams(temperature=0), [1, 0, 0, 0]),
        (SamplingParams(temperature=0.5), [0.25, 0.0625, 0.0225, 0.01]),
        (SamplingParams(top_k=2), [0.5, 0.25, 0, 0]),
        (SamplingParams(top_p=0.8), [0.5, 0.25, 0.15, 0]),
        (SamplingParams(min_p=0.4), [0.5, 0.25, 0, 0]),
        (SamplingParams(logit_bias={3: math.log(2)}), [0.5, 0.25, 0.15, 0.2]),
        # 1 is in the prompt; 2 has been emitted twice.
        (SamplingParams(repetition_penalty=2), [0.5, 0.25**2, 0.15**2, 0.1]),
        (SamplingParams(presence_penalty=math.log(2)), [0.5, 0.25, 0.15 / 2, 0.1]),
        (SamplingParams(frequency_penalty=math.log(2)), [0.5, 0.25, 0.15 / 4, 0.1]),
    ],
)
def test_the_reference_distribution_by_hand(sampling: SamplingParams, weights: list[float]) -> None:
    expected = np.array(weights) / sum(weights)
    assert reference_distribution(LOGITS, sampling, (1,), (2, 2)) == pytest.approx(expected)


def test_a_joint_distribution_sums_to_1() -> None:
    joint = joint_distribution(TableModel.random(3, 2), (0,), 4, SamplingParams(top_p=0.9))
    assert sum(joint.values()) == pytest.approx(1)


def test_the_truth_is_seldom_suspected() -> None:
    """p-values of the truth are uniform."""
    probabilities = np.random.default_rng(0).dirichlet(np.full(50, 0.5))
    expected = {(cell,): probability for cell, probability in enumerate(probabilities)}
    suspected = 0
    for seed in range(400):
        drawn = np.random.default_rng(seed + 1).choice(50, size=2000, p=probabilities)
        suspected += p_value(Counter((int(cell),) for cell in drawn), expected) < 0.05
    assert 8 <= suspected <= 36  # 20 expected, standard deviation 4.4


def test_what_cannot_be_is_not_forgiven() -> None:
    assert p_value(Counter({(0,): 1000, (1,): 1}), {(0,): 1.0}) == IMPOSSIBLE


class Drawn:
    """A sample of given probabilities, drawn as far as it is asked for."""

    def __init__(self, probabilities: np.ndarray, seed: int) -> None:
        self._cells = np.random.default_rng(seed).choice(len(probabilities), size=4000, p=probabilities).tolist()
        self.drawn = 0

    def first(self, draws: int) -> Counter[Outcome]:
        self.drawn = max(draws, self.drawn)
        return Counter((cell,) for cell in self._cells[:draws])


TRUE = np.random.default_rng(0).dirichlet(np.full(50, 2.0))
EXPECTED = {(cell,): probability for cell, probability in enumerate(TRUE.tolist())}


@pytest.mark.skipif(ALL_DRAWS, reason="all samples are drawn to their end")
def test_a_sample_that_fits_is_given_up_early() -> None:
    samples = [Drawn(TRUE, seed) for seed in range(300)]
    assert all(p_of_stages(sample.first, EXPECTED, 3000) > THRESHOLD for sample in samples)
    assert sum(sample.drawn == 3000 * STAGES[0][0] for sample in samples) > 130
    assert np.mean([sample.drawn for sample in samples]) < 0.4 * 3000


@pytest.mark.parametrize(
    ("size", "least", "most"), [(0.15, 30, 100), (0.165, 120, 200), (0.18, 210, 270), (0.2, 280, 300)]
)
def test_a_mistake_that_a_whole_sample_shows_is_found_in_stages(size: float, least: int, most: int) -> None:
    """Whether it is found seldom, half of the time, often, or nearly always."""
    wrong = TRUE * (1 + size * np.resize((1, -1), 50))
    samples = [Drawn(wrong / wrong.sum(), seed) for seed in range(300)]
    found_whole = sum(p_value(sample.first(3000), EXPECTED) < THRESHOLD for sample in samples)
    assert least < found_whole < most
    assert sum(p_of_stages(sample.first, EXPECTED, 3000) < THRESHOLD for sample in samples) >= found_whole
