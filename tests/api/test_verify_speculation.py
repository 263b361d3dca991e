"""Verdicts on logits that a user brings along."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactness.libraries import LIBRARIES, array_maker
from outrider import InputError, ModelError, SettingError, VocabularyError, verify_speculation
from outrider.maths.rules import RULES

TARGET = np.array([[0.0, 2.0, -1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 3.0]], dtype=np.float32)
DRAFTS = np.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0]], dtype=np.float32)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rule", RULES)
def test_all_libraries_agree_on_the_verdict(rule: str, library: str) -> None:
    make_array = array_maker(library)
    for seed in range(30):
        found = verify_speculation(
            make_array([1, 0]), make_array(TARGET), make_array(DRAFTS), rule=rule, seed=seed, temperature=0.8
        )
        assert found == verify_speculation([1, 0], TARGET, DRAFTS, rule=rule, seed=seed, temperature=0.8)


@pytest.mark.parametrize("rule", RULES)
def test_temperature_0_compares_with_the_most_probable_token(rule: str) -> None:
    assert verify_speculation([1, 0], TARGET, DRAFTS, temperature=0, rule=rule) == (2, [1, 0, 2])
    assert verify_speculation([1, 2], TARGET, DRAFTS, temperature=0, rule=rule) == (1, [1, 0])
    assert verify_speculation([1, 0], TARGET[:2], None, temperature=0, rule=rule) == (2, [1, 0])


@pytest.mark.parametrize("rule", RULES)
def test_the_number_accepted_counts_the_tokens_that_stay(rule: str) -> None:
    for seed in range(50):
        accepted, tokens = verify_speculation([1, 0], TARGET, DRAFTS, rule=rule, seed=seed)
        assert tokens[:accepted] == [1, 0][:accepted]
        assert len(tokens) == accepted + 1


def test_a_seed_reproduces_the_verdict() -> None:
    seen = [verify_speculation([0, 1], TARGET, DRAFTS, seed=5) for _ in range(5)]
    assert all(verdict == seen[0] for verdict in seen)


def test_without_a_seed_the_draws_differ() -> None:
    flat = np.zeros((2, 1000), dtype=np.float32)
    assert len({tuple(verify_speculation([0], flat, None)[1]) for _ in range(5)}) > 1


def test_no_draft_is_a_plain_draw() -> None:
    accepted, tokens = verify_speculation([], TARGET[:1], None, seed=0)
    assert accepted == 0
    assert len(tokens) == 1


@given(st.integers(0, 2**64 - 1))
def test_half_precision_and_a_batch_axis_will_do(seed: int) -> None:
    expected = verify_speculation([1, 0], TARGET, DRAFTS, seed=seed)
    tokens = np.array([[1, 0]], dtype=np.int32)
    assert verify_speculation(tokens, TARGET[None], DRAFTS[None].astype(np.float16), seed=seed) == expected


GOOD = {"draft_tokens": [1, 0], "target_logits": TARGET, "draft_logits": DRAFTS}


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"target_logits": TARGET[:1]}, InputError, "target_logits has 1 rows for 2 draft tokens: give 3"),
        ({"target_logits": np.vstack([TARGET, TARGET])}, InputError, "target_logits has 6 rows"),
        (
            {"target_logits": TARGET[0]},
            InputError,
            r"target_logits has shape \(3,\): it must be \[tokens, vocab\]",
        ),
        ({"target_logits": TARGET.tolist()}, InputError, "cannot compute with a list"),
        (
            {"draft_logits": DRAFTS[:1]},
            InputError,
            "draft_logits has 1 rows for 2 draft tokens: give one each",
        ),
        ({"draft_logits": DRAFTS[:, :2]}, VocabularyError, "draft_logits are 2 wide and target_logits 3"),
        ({"draft_tokens": [1, 3]}, InputError, "draft token 3 is outside the vocabulary of 3"),
        ({"draft_tokens": [1, -1]}, InputError, "draft token -1 is outside the vocabulary of 3"),
        ({"draft_tokens": np.array([1.0, 0.0])}, InputError, "token ids must be whole numbers in one row"),
        ({"draft_tokens": [1.5, 0]}, InputError, "token ids must be whole numbers in one row"),
        (
            {"draft_tokens": np.array([[1, 0], [0, 1]])},
            InputError,
            "token ids must be whole numbers in one row",
        ),
        ({"draft_tokens": [], "target_logits": TARGET[:0]}, InputError, "target_logits has 0 rows"),
        ({"target_logits": TARGET * np.nan}, ModelError, "a logit of nan: it must be finite"),
        ({"draft_logits": DRAFTS + np.inf}, ModelError, "a logit of inf: it must be finite"),
        ({"temperature": -1}, SettingError, "temperature is -1"),
        ({"temperature": math.nan}, SettingError, "temperature is nan"),
        ({"rule": "typical"}, SettingError, "rule 'typical' is unknown"),
        ({"seed": -1}, SettingError, "seed is -1"),
    ],
)
def test_what_cannot_be_verified_is_refused(change: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        verify_speculation(**(GOOD | change))


def test_a_nan_is_refused_at_temperature_0_as_well() -> None:
    with pytest.raises(ModelError, match="a logit of nan"):
        verify_speculation([1, 0], TARGET * np.nan, DRAFTS, temperature=0)
