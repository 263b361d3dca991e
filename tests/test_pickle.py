"""What crosses processes: requests, settings, results and every error."""

import pickle

import pytest

import outrider
from outrider import (
    BatchError,
    Generation,
    OutriderError,
    Request,
    SamplingParams,
    SpeculativeDecoder,
    SuffixDrafter,
    errors,
)
from tiny.tables import TARGET

ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, OutriderError)]


def copied(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_can_be_sent_on(kind):
    error = kind("too long", [[1], [2, 3]]) if kind is BatchError else kind("too long")
    copy = copied(error)
    assert type(copy) is kind
    assert str(copy) == "too long"
    assert copy.__dict__ == error.__dict__


def test_there_are_errors_to_send():
    assert {kind.__name__ for kind in ERRORS} >= {name for name in outrider.__all__ if name.endswith("Error")}


@pytest.mark.parametrize(
    "value",
    [
        SamplingParams(temperature=0.5, logit_bias={3: 1.0}, seed=4),
        Request("text", 5, SamplingParams(seed=3), stop=("a",)),
        Request([{"role": "user", "content": "text"}], logprobs=3),
        Request((1, 2), stop_token_ids=frozenset({3}), predicted=(4,)),
    ],
)
def test_plain_data_stays_what_it_is(value):
    assert copied(value) == value


def test_a_finished_text_can_be_sent_on():
    made = SpeculativeDecoder(SuffixDrafter(), TARGET).generate((0, 1, 2), max_tokens=8, logprobs=True)
    copy = copied(made)
    assert isinstance(copy, Generation)
    assert copy == made
