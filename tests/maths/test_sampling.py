"""From logits to distributions, against the processors of transformers; and settings out of range."""

import math
from itertools import product

import numpy as np
import pytest

from exactness.libraries import LIBRARIES, array_maker
from outrider import ModelError, SamplingParams, SettingError
from outrider.maths.arrays import to_numpy
from outrider.maths.sampling import (
    History,
    adjust,
    check_finite,
    distribution,
    log_probabilities,
    most_probable,
)

torch = pytest.importorskip("torch")
logits_process = pytest.importorskip("transformers.generation.logits_process")

PROMPT = (1, 4, 4, 9)
OUTPUT = (2, 9, 2, 2)


def logits_of(vocab_size: int, rows: int = 4) -> np.ndarray:
    return np.random.default_rng(vocab_size).normal(0, 2, (rows, vocab_size)).astype(np.float32)


def sampled_from(logits, sampling: SamplingParams, output=OUTPUT, paths=None) -> np.ndarray:
    history = History(PROMPT)
    history.extend(output)
    paths = [()] * len(logits) if paths is None else paths
    return to_numpy(distribution(adjust(logits, sampling, history, paths), sampling))


def by_transformers(logits: np.ndarray, sampling: SamplingParams, output=OUTPUT) -> np.ndarray:
    chain = logits_process.LogitsProcessorList()
    if sampling.logit_bias:
        bias = {(token,): float(value) for token, value in sampling.logit_bias.items()}
        chain.append(logits_process.SequenceBiasLogitsProcessor(bias))
    if sampling.repetition_penalty != 1:
        chain.append(logits_process.RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature != 1:
        chain.append(logits_process.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(logits_process.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(logits_process.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        chain.append(logits_process.MinPLogitsWarper(sampling.min_p))
    tokens = torch.tensor([PROMPT + tuple(output)] * len(logits))
    return torch.softmax(chain(tokens, torch.from_numpy(logits.copy())), dim=-1).numpy()


SINGLE = [
    {},
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 5000},
    {"top_p": 0.1},
    {"top_p": 0.6},
    {"top_p": 0.99},
    {"min_p": 0.02},
    {"min_p": 0.3},
    {"min_p": 1.0},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.7},
    {"logit_bias": {0: 2.5, 9: -4.0}},
    {"logit_bias": {3: -math.inf}},
]
COMBINED = [
    dict(zip(("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "logit_bias"), values, strict=True))
    for values in product((0.6, 1.5), (0, 12), (1.0, 0.85), (0.0, 0.1), (1.0, 1.3), ({}, {2: 1.0, 30: 2.0}))
]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("vocab_size", [50, 2000])
@pytest.mark.parametrize("settings", SINGLE, ids=str)
def test_every_setting_is_that_of_transformers(settings: dict, vocab_size: int, library: str) -> None:
    logits, sampling = logits_of(vocab_size), SamplingParams(**settings)
    found = sampled_from(array_maker(library)(logits), sampling)
    np.testing.assert_allclose(found, by_transformers(logits, sampling), atol=2e-6)


@pytest.mark.parametrize("vocab_size", [50, 2000])
@pytest.mark.parametrize("settings", COMBINED, ids=lambda settings: "-".join(map(str, settings.values())))
def test_settings_combine_in_the_order_of_transformers(settings: dict, vocab_size: int) -> None:
    logits, sampling = logits_of(vocab_size), SamplingParams(**settings)
    np.testing.assert_allclose(sampled_from(logits, sampling), by_transformers(logits, sampling), atol=2e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_tokens_of_the_draft_count_as_emitted(library: str) -> None:
    """Position by position, along the path that leads there."""
    logits = logits_of(50, rows=3)
    sampling = SamplingParams(repetition_penalty=1.4, presence_penalty=0.5, frequency_penalty=0.25)
    found = sampled_from(array_maker(library)(logits), sampling, paths=[(), (7,), (7, 2)])
    for row, path in enumerate([(), (7,), (7, 2)]):
        alone = sampled_from(logits[row : row + 1], sampling, output=OUTPUT + path)
        np.testing.assert_allclose(found[row], alone[0], rtol=1e-5)


def test_presence_and_frequency_penalties_by_hand() -> None:
    logits = np.zeros((1, 12), dtype=np.float32)
    history = History(PROMPT)
    history.extend(OUTPUT)
    sampling = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    found = adjust(logits, sampling, history, [(7, 2)])[0]
    expected = np.zeros(12)
    expected[2] = -0.5 - 4 * 0.25  # three times in the output, once in the draft
    expected[7] = expected[9] = -0.5 - 0.25
    np.testing.assert_allclose(found, expected)  # tokens of the prompt alone are left alone


def test_penalties_do_not_touch_the_logits_handed_in() -> None:
    logits = logits_of(50)
    before = logits.copy()
    sampled_from(logits, SamplingParams(repetition_penalty=2, logit_bias={0: 1}))
    np.testing.assert_array_equal(logits, before)


def test_without_penalties_nothing_is_copied() -> None:
    logits = logits_of(50)
    assert adjust(logits, SamplingParams(temperature=0.5), History(PROMPT), [()] * 4) is logits


def test_a_token_beyond_the_logits_is_passed_over() -> None:
    """A draft model may have fewer logits than the target."""
    logits = logits_of(8)
    found = sampled_from(logits, SamplingParams(repetition_penalty=2, logit_bias={40: 3.0}))
    assert found.shape == (4, 8)


def test_ties_at_a_threshold_are_all_kept() -> None:
    logits = np.log(np.array([[0.4, 0.2, 0.2, 0.2]], dtype=np.float32))
    for sampling in (SamplingParams(top_k=2), SamplingParams(top_p=0.5), SamplingParams(min_p=0.5 - 1e-6)):
        np.testing.assert_allclose(sampled_from(logits, sampling, output=()), [[0.4, 0.2, 0.2, 0.2]], rtol=1e-5)


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1e6])
def test_extreme_temperatures_stay_finite(temperature: float) -> None:
    found = sampled_from(logits_of(50), SamplingParams(temperature=temperature))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "field, value, limit",
    [
        ("temperature", -0.1, "from 0 to 1e20 (0 is greedy)"),
        ("temperature", math.nan, "from 0 to 1e20 (0 is greedy)"),
        ("temperature", 1e300, "from 0 to 1e20 (0 is greedy)"),
        ("temperature", math.inf, "from 0 to 1e20 (0 is greedy)"),
        ("temperature", 1e-9, "0 or at least 1e-06 (use 0 for greedy)"),
        ("top_k", -1, "a whole number >= 0"),
        ("top_k", math.inf, "a whole number >= 0"),
        ("top_k", 1.5, "a whole number >= 0"),
        ("top_p", 0, "above 0 and at most 1 (1 keeps all tokens)"),
        ("top_p", 1.1, "above 0 and at most 1 (1 keeps all tokens)"),
        ("top_p", math.nan, "above 0 and at most 1 (1 keeps all tokens)"),
        ("min_p", -0.1, "from 0 to 1 (0 keeps all tokens)"),
        ("min_p", 1.5, "from 0 to 1 (0 keeps all tokens)"),
        ("repetition_penalty", 0, "from 1e-06 to 1e+06 (1 is no penalty)"),
        ("repetition_penalty", math.nan, "from 1e-06 to 1e+06 (1 is no penalty)"),
        ("repetition_penalty", math.inf, "from 1e-06 to 1e+06 (1 is no penalty)"),
        ("repetition_penalty", 5e-324, "from 1e-06 to 1e+06 (1 is no penalty)"),
        ("presence_penalty", 1e308, "a number from -1e20 to 1e20 (0 is no penalty)"),
        ("logit_bias", {1: 1e39}, "{token id >= 0: number of at most 1e20}"),
        ("presence_penalty", math.inf, "a number from -1e20 to 1e20 (0 is no penalty)"),
        ("presence_penalty", math.nan, "a number from -1e20 to 1e20 (0 is no penalty)"),
        ("frequency_penalty", -math.inf, "a number from -1e20 to 1e20 (0 is no penalty)"),
        ("logit_bias", {-1: 0.5}, "{token id >= 0: number of at most 1e20}"),
        ("logit_bias", {1: math.inf}, "{token id >= 0: number of at most 1e20}"),
        ("logit_bias", {1: math.nan}, "{token id >= 0: number of at most 1e20}"),
        ("seed", 1.5, "a whole number from 0 to 2**64 - 1, or None"),
        ("seed", -1, "a whole number from 0 to 2**64 - 1, or None"),
        ("seed", 2**64, "a whole number from 0 to 2**64 - 1, or None"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(field: str, value, limit: str) -> None:
    with pytest.raises(SettingError) as caught:
        SamplingParams(**{field: value})
    assert str(caught.value) == f"{field} is {value}: it must be {limit}"


def test_the_bounds_themselves_are_allowed() -> None:
    SamplingParams(temperature=0, top_k=0, top_p=1, min_p=0, seed=0)
    SamplingParams(temperature=1e-6, top_p=1e-9, min_p=1, seed=2**64 - 1, logit_bias={0: -math.inf})


@pytest.mark.parametrize("least", [True, False])
def test_at_the_bounds_every_logit_stays_a_number(least: bool) -> None:
    sign, factor = (-1, 1e-6) if least else (1, 1e6)
    params = SamplingParams(1e-6, 0, 1, 0, factor, -1e20, -1e20, {0: 1e20, 1: sign * 1e20})
    history = History((0, 1))
    history.extend([0, 1] * 1000)
    adjusted = adjust(np.array([[1e4, -1e4, 0.0]], dtype=np.float32), params, history, [()])
    assert np.isfinite(adjusted / params.temperature).all()
    assert np.isfinite(distribution(adjusted, params)).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_are_refused(library: str, bad: float) -> None:
    logits = logits_of(50)
    if bad == -math.inf:
        logits[2] = bad  # a single one is a token that cannot be
    else:
        logits[2, 17] = bad
    for look in (check_finite, most_probable):
        with pytest.raises(ModelError, match=f"the model produced a logit of {bad}: it must be finite"):
            look(array_maker(library)(logits))


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.7}, {"min_p": 0.2}], ids=str)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_no_setting_hides_a_logit_that_is_no_number(library: str, settings: dict, bad: float) -> None:
    logits = logits_of(50)
    logits[2, slice(None) if bad == -math.inf else 17] = bad
    with pytest.raises(ModelError, match=f"the model produced a logit of {bad}: it must be finite"):
        distribution(array_maker(library)(logits), SamplingParams(**settings))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_most_probable_token_is_the_first_of_equals(library: str) -> None:
    logits = np.array([[0, 3, 3, -math.inf], [-1, -1, -1, -1]], dtype=np.float32)
    assert most_probable(array_maker(library)(logits)).tolist() == [1, 0]


@pytest.mark.parametrize("library", LIBRARIES)
def test_log_probabilities_are_of_the_raw_logits(library: str) -> None:
    logits = logits_of(50)
    found = log_probabilities(array_maker(library)(logits), [0, 0, 3], [5, 49, 7])
    expected = torch.log_softmax(torch.from_numpy(logits).double(), dim=-1)[[0, 0, 3], [5, 49, 7]]
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)
