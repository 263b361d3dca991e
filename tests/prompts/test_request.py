"""Requests: plain data, any form of prompt, and the one builder."""

import pickle

import numpy as np
import pytest

from outrider import InputError, Request, SamplingParams, SettingError, TableModel
from outrider.prompts.request import PreparedRequest, prepare_request
from outrider.prompts.settings import SamplingSettings, sampling_of

MODEL = TableModel.random(5, 1, seed=0)
MODEL = TableModel(MODEL.table, name="table", context_length=10, stop_token_ids=frozenset({4}))
SAY = {"role": "user", "content": "aa"}


class Letters:
    fingerprint = "letters"

    def encode(self, text):
        return ["abcde".index(letter) for letter in text]

    def decode(self, tokens):
        return "".join("abcde"[token] for token in tokens)

    def encode_chat(self, messages):
        return [4, *self.encode("".join(message["content"] for message in messages)), 3]


LIBRARIES = ["numpy"]
for name in ("torch", "mlx.core"):
    try:
        __import__(name)
    except ImportError:
        continue
    LIBRARIES.append(name)


def array_of(library, tokens):
    module = __import__(library, fromlist=["array"])
    return module.tensor(tokens) if library == "torch" else module.array(tokens)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("tokens", [[0, 1, 2], [[0, 1, 2]]])
def test_a_prompt_may_be_an_array_of_any_library(library, tokens):
    assert Request(array_of(library, tokens)).prompt == (0, 1, 2)


@pytest.mark.parametrize(
    "given, plain",
    [
        ("ab", "ab"),
        ([0, 1], (0, 1)),
        (range(3), (0, 1, 2)),
        ([np.int64(2)], (2,)),
        ([SAY], (SAY,)),
        ((SAY,), (SAY,)),
        ([], ()),
    ],
)
def test_every_form_of_a_prompt_becomes_plain_data(given, plain):
    request = Request(given)
    assert request.prompt == plain
    assert pickle.loads(pickle.dumps(request)) == request


@pytest.mark.parametrize(
    "prompt, message",
    [
        (None, "token ids cannot be read from a NoneType"),
        (3.5, "token ids must be whole numbers in one row"),
        (b"ab", "token ids cannot be read from a bytes"),
        ({"role": "user", "content": "a"}, "the prompt is a single message"),
        ({1, 2}, "token ids cannot be read from a set"),
        (["a", "b"], "token ids must be whole numbers"),
        ([True], "token ids must be whole numbers"),
        ([[1, 2], [3]], "token ids cannot be read from a list"),
        ([[1, 2], [3, 4]], r"int64 of shape \(2, 2\)"),
        ([SAY, "a"], "the message 'a' must be a mapping with a role"),
        ([{"content": "a"}], "must be a mapping with a role"),
        (object(), "token ids cannot be read from a object"),
    ],
)
def test_anything_else_is_refused_in_one_line(prompt, message):
    with pytest.raises(InputError, match=message) as caught:
        Request(prompt)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_tokens": 0}, "max_tokens is 0: it must be at least 1"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"sampling": {"temperature": 0}}, "sampling is .*: it must be SamplingParams"),
        ({"logprobs": -1}, "logprobs is -1"),
        ({"logprobs": "all"}, "logprobs is 'all'"),
        ({"stop": [""]}, "a stop string is empty"),
        ({"stop": [3]}, "a stop string is 3: it must be a text"),
        ({"stop": "a", "detokenize": False}, "stop strings need the text"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        Request("a", **settings)


def test_the_builder_puts_a_request_into_the_terms_of_a_model():
    request = Request("ab", 7, SamplingParams(top_k=2), stop="c", predicted="ba", logprobs=3)
    prepared = prepare_request(request, MODEL, Letters())
    assert prepared == PreparedRequest(
        (0, 1), 7, SamplingParams(top_k=2), frozenset({4}), ("c",), (1, 0), logprobs=True, top_logprobs=3
    )
    assert pickle.loads(pickle.dumps(prepared)) == prepared
    assert prepare_request(Request([SAY]), MODEL, Letters()).prompt == (4, 0, 0, 3)
    assert prepare_request(Request([0], logprobs=True), MODEL, None).top_logprobs == 0


def test_the_models_own_stop_tokens_are_the_default():
    assert prepare_request(Request([0]), MODEL, None).stop_token_ids == {4}
    assert prepare_request(Request([0], stop_token_ids=()), MODEL, None).stop_token_ids == frozenset()
    assert prepare_request(Request([0], stop_token_ids=np.array([1, 2])), MODEL, None).stop_token_ids == {1, 2}


@pytest.mark.parametrize(
    "request_, error, message",
    [
        (Request([]), InputError, "the prompt is empty"),
        (Request([5]), InputError, "prompt token 5 is outside the vocabulary of 5"),
        (Request([0, -1]), InputError, "prompt token -1 is outside"),
        (Request([2**70]), InputError, "outside the vocabulary"),
        (Request([0] * 10), InputError, "the prompt has 10 tokens and the context of table holds 10"),
        (Request("ab"), InputError, "a prompt of text needs a tokenizer"),
        (Request([SAY]), InputError, "a conversation needs a tokenizer"),
        (Request([0], stop="a"), SettingError, "stop strings need a tokenizer"),
        (Request([0], predicted="a"), SettingError, "expected text needs a tokenizer"),
    ],
)
def test_what_cannot_be_decoded_is_refused(request_, error, message):
    with pytest.raises(error, match=message):
        prepare_request(request_, MODEL, None)


def test_samples_differ_in_their_seeds_alone():
    samples = Request("a", sampling=SamplingParams(top_k=2, seed=2**64 - 1)).samples(3)
    assert [sample.sampling.seed for sample in samples] == [2**64 - 1, 0, 1]
    assert {sample.sampling.top_k for sample in samples} == {2}
    drawn = Request("a").samples(2)
    assert drawn[1].sampling.seed - drawn[0].sampling.seed == 1
    with pytest.raises(SettingError, match="n is 0: it must be at least 1"):
        Request("a").samples(0)


def test_settings_by_name_are_the_fields_of_sampling_params():
    from dataclasses import fields

    assert list(SamplingSettings.__annotations__) == [field.name for field in fields(SamplingParams)]
    assert sampling_of(None, {}) == SamplingParams()
    assert sampling_of(SamplingParams(top_k=3, seed=1), {"seed": 2, "top_p": 0.5}) == SamplingParams(
        top_k=3, top_p=0.5, seed=2
    )
    with pytest.raises(SettingError, match="top_p is 2"):
        sampling_of(None, {"top_p": 2})
