"""The yardstick itself."""

import math
from collections import Counter

import numpy as np
import pytest

from exactness.statistics import IMPOSSIBLE, joint_distribution, p_value, reference_distribution
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
