"""Values of the wrong type are refused at the door, in one line."""

import math
import traceback

import numpy as np
import pytest

import outrider
from outrider import AdaptiveSpeculator, ModelError, OutriderError, SettingError, SpeculativeDecoder, verify_speculation
from outrider.lookahead import Fixed
from outrider.prompts.request import Request, prepare_request
from outrider.runtimes.table import TableModel

MODEL = TableModel.random(6, 1)
DRAFT = TableModel.random(6, 1, seed=1)


def decoder():
    return SpeculativeDecoder(DRAFT, MODEL)


WRONG = [2.5, "4", math.nan, True, [4], {}]
CALLS = {
    "lookahead": lambda value: SpeculativeDecoder(DRAFT, MODEL, lookahead=value),
    "fixed": lambda value: Fixed(value),
    "num_tokens": lambda value: decoder().draft_generation([1], value),
    "speculator": lambda value: AdaptiveSpeculator(value),
    "window": lambda value: AdaptiveSpeculator(window=value),
    "most": lambda value: AdaptiveSpeculator(max_lookahead=value),
    "max_tokens": lambda value: decoder().generate([1], max_tokens=value),
    "n": lambda value: decoder().generate([1], n=value),
    "rows": lambda value: outrider.batched_speculative_decode([[1]], DRAFT, MODEL, max_rows=value),
    "threads": lambda value: outrider.load("nosuch", threads=value),
    "batch": lambda value: outrider.batched_speculative_decode([[1]], DRAFT, MODEL, max_tokens=value),
}


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_whole_number(call, value):
    with pytest.raises(OutriderError, match=r"^[^\n]+$"):
        CALLS[call](value)


@pytest.mark.parametrize("call", [name for name in CALLS if name not in ("lookahead", "threads")])
def test_half_a_token_is_said_to_be_no_whole_number(call):
    with pytest.raises(OutriderError, match=r"is 2\.5: it must be a whole number"):
        CALLS[call](2.5)


@pytest.mark.parametrize("call", [name for name in CALLS if name not in ("lookahead", "n")])
def test_none_is_no_number_either(call):
    with pytest.raises(OutriderError, match=r"^[^\n]+$"):
        CALLS[call](None)


@pytest.mark.parametrize("value", ["0.5", None, [0.5], math.nan, 1.5, -0.1])
def test_what_is_no_rate(value):
    with pytest.raises(SettingError, match="acceptance_rate is"):
        AdaptiveSpeculator().update_lookahead(value)


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty"])
@pytest.mark.parametrize("value", ["0.5", None, [0.5]], ids=repr)
def test_what_is_no_sampling_setting(name, value):
    with pytest.raises(SettingError, match=name):
        decoder().generate([1], **{name: value})
    assert decoder().generate([1], max_tokens=1, temperature=np.float32(0.5)).tokens


@pytest.mark.parametrize("bias", [{"1": 1.0}, {1: "x"}, {1.5: 1.0}, {None: 1.0}, [1], None], ids=repr)
def test_what_is_no_bias(bias):
    with pytest.raises(SettingError, match="logit_bias"):
        decoder().generate([1], logit_bias=bias)


def test_settings_about_tokens_that_the_model_does_not_have():
    with pytest.raises(SettingError, match=r"logit_bias holds token 6: .* has the tokens 0 to 5"):
        decoder().generate([1], logit_bias={5: 1.0, 6: 1.0})
    with pytest.raises(SettingError, match=r"stop_token_ids holds token 9: .* has the tokens 0 to 5"):
        decoder().generate([1], stop_token_ids=[9])
    with pytest.raises(SettingError, match=r"bans all 6 tokens"):
        decoder().generate([1], logit_bias=dict.fromkeys(range(6), -math.inf))
    prepare_request(Request([1], stop_token_ids=[5]), MODEL, None)
    assert set(decoder().generate([1], logit_bias=dict.fromkeys(range(5), -math.inf)).tokens) == {5}


def test_what_is_not_a_number_is_named_with_its_array_and_row():
    target, draft = np.zeros((3, 4)), np.zeros((2, 4))
    for name, rows, row in (("target_logits", target, 2), ("draft_logits", draft, 1)):
        for temperature in (0, 1):
            rows[row, 3] = math.nan
            with pytest.raises(ModelError, match=f"row {row} of {name}"):
                verify_speculation([1, 2], target, draft, temperature=temperature)
            rows[row, 3] = 0
    with pytest.raises(OutriderError, match=r"0 draft tokens: give 1, for the bonus"):
        verify_speculation([], target[:0], draft[:0])


def test_a_mistake_in_the_callers_own_model_is_shown():
    def broken(tokens):
        raise ValueError("my bug")

    with pytest.raises(ModelError, match=r"fails .* token ids.*ValueError: my bug") as failure:
        SpeculativeDecoder(None, broken)
    assert isinstance(failure.value.__cause__, ValueError)
    assert traceback.extract_tb(failure.value.__cause__.__traceback__)[-1].name == "broken"


@pytest.mark.parametrize("value", [2.5, "0.5", math.nan, None, [0.5], {}], ids=repr)
@pytest.mark.parametrize(
    "drafter", [outrider.SuffixDrafter, lambda **settings: outrider.ModelDrafter(DRAFT, **settings)]
)
def test_a_chance_that_is_none(drafter, value):
    with pytest.raises(SettingError, match=r"^min_survival is .* within 0 to 1$"):
        drafter(min_survival=value)


def test_whole_numbers_of_numpy_are_whole_numbers():
    found = SpeculativeDecoder(DRAFT, MODEL, lookahead=np.int64(2))
    assert len(found.generate([1], max_tokens=np.uint8(3)).tokens) == 3
    assert len(found.draft_generation([1], np.uint8(255))) == 255
    assert AdaptiveSpeculator(np.int64(3)).lookahead == 3
