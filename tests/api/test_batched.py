"""batched_speculative_decode: the course's fourth part."""

import numpy as np
import pytest

from outrider import (
    Adaptive,
    BatchError,
    FunctionModel,
    InputError,
    ModelDrafter,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    SuffixDrafter,
    batched_speculative_decode,
)
from tiny.tables import DRAFT, TARGET

DRAFT_NAMES = ["model", "suffix", "drafter", "none"]
PROMPTS = [(0, 1, 2), (4,), (3, 3, 1, 0, 2, 2, 1), (1, 4)] * 3


def alone(place: int, prompt, max_tokens: int = 12, seed: int = 7, **sampling) -> list[int]:
    params = SamplingParams(seed=seed + place, **sampling)
    decoder = SpeculativeDecoder(None, TARGET, rule="coupled")
    return decoder.generate(prompt, max_tokens=max_tokens, sampling=params).tokens


@pytest.mark.parametrize("lookahead", [None, 3, Adaptive()], ids=["goodput", "fixed", "adaptive"])
@pytest.mark.parametrize(
    "draft", [DRAFT, SuffixDrafter(), ModelDrafter(DRAFT), None], ids=["model", "suffix", "drafter", "none"]
)
@pytest.mark.parametrize("max_rows", [1, 5, 64])
def test_every_prompt_gets_what_it_gets_alone(lookahead, draft, max_rows: int) -> None:
    outputs = batched_speculative_decode(
        PROMPTS,
        draft,
        TARGET,
        max_tokens=12,
        sampling=SamplingParams(seed=7),
        rule="coupled",
        lookahead=lookahead,
        max_rows=max_rows,
    )
    assert outputs == [alone(place, prompt) for place, prompt in enumerate(PROMPTS)]


def test_the_call_of_the_course() -> None:
    outputs = batched_speculative_decode(PROMPTS, DRAFT, TARGET)
    assert [len(tokens) for tokens in outputs] == [100] * len(PROMPTS)
    assert batched_speculative_decode([], DRAFT, TARGET) == []


def test_one_setting_for_each_prompt() -> None:
    settings = [SamplingParams(temperature=0), SamplingParams(seed=4)]
    outputs = batched_speculative_decode(PROMPTS[:2], DRAFT, TARGET, 12, sampling=settings, rule="coupled")
    assert outputs == [alone(0, PROMPTS[0], temperature=0), alone(0, PROMPTS[1], seed=4)]
    with pytest.raises(SettingError, match="2 sampling settings for 3 prompts"):
        batched_speculative_decode(PROMPTS[:3], DRAFT, TARGET, sampling=settings)


def test_prompts_may_be_arrays_of_any_library() -> None:
    greedy = SamplingParams(temperature=0)
    expected = batched_speculative_decode([[0, 1], [3]], DRAFT, TARGET, 5, sampling=greedy)
    makers = [np.array]
    for name in ("torch", "mlx.core"):
        try:
            library = __import__(name, fromlist=["array"])
        except ImportError:
            continue
        makers.append(library.tensor if name == "torch" else library.array)
    for make in makers:
        assert batched_speculative_decode([make([0, 1]), make([[3]])], DRAFT, TARGET, 5, sampling=greedy) == expected


def test_a_bad_prompt_is_named_before_anything_is_decoded() -> None:
    with pytest.raises(InputError, match="prompt 1 cannot be decoded: the prompt is empty"):
        batched_speculative_decode([[1], []], DRAFT, TARGET)
    with pytest.raises(InputError, match="prompt 0 cannot be decoded: prompt token 9 is outside"):
        batched_speculative_decode([[9]], DRAFT, TARGET)
    with pytest.raises(InputError, match="prompt 1 cannot be decoded: a prompt of text needs a tokenizer"):
        batched_speculative_decode([[1], "two"], DRAFT, TARGET)


def test_a_text_that_fails_does_not_take_the_others_with_it() -> None:
    def function(tokens):
        logits = np.stack([TARGET.logits_after(tokens[0, : end + 1].tolist()) for end in range(tokens.shape[1])])
        if tokens[0, 0] == 4:
            logits[5:] = np.nan
        return logits

    broken = FunctionModel(function, vocab_size=5)
    with pytest.raises(BatchError, match="3 of 12 prompts failed, the first of them number 1") as caught:
        batched_speculative_decode(PROMPTS, DRAFT, broken, 12, sampling=SamplingParams(seed=7), rule="coupled")
    for place, (prompt, tokens) in enumerate(zip(PROMPTS, caught.value.outputs, strict=True)):
        expected = alone(place, prompt)
        assert tokens == (expected if prompt != (4,) else expected[: len(tokens)])


def test_progress_is_told() -> None:
    told = []
    batched_speculative_decode(
        PROMPTS, DRAFT, TARGET, 5, max_rows=4, progress=lambda done, all: told.append((done, all))
    )
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


@pytest.mark.parametrize("n", [1, 3])
def test_several_samples_of_every_prompt(n: int) -> None:
    outputs = batched_speculative_decode(PROMPTS[:3], DRAFT, TARGET, 12, n=n, seed=7, rule="coupled")
    assert outputs == [
        [alone(place * n + number, prompt) for number in range(n)] for place, prompt in enumerate(PROMPTS[:3])
    ]
    assert batched_speculative_decode([], DRAFT, TARGET, n=n) == []
    with pytest.raises(SettingError, match="n is 0"):
        batched_speculative_decode([[1]], DRAFT, TARGET, n=0)


def test_settings_by_name_change_those_that_are_given() -> None:
    by_name = batched_speculative_decode(PROMPTS[:2], DRAFT, TARGET, 12, temperature=0.5, seed=7, rule="coupled")
    assert by_name == [alone(place, prompt, temperature=0.5) for place, prompt in enumerate(PROMPTS[:2])]
    each = [SamplingParams(seed=1), SamplingParams(seed=2)]
    mixed = batched_speculative_decode(PROMPTS[:2], DRAFT, TARGET, 12, sampling=each, temperature=0.5, rule="coupled")
    assert mixed == [alone(0, prompt, seed=1 + place, temperature=0.5) for place, prompt in enumerate(PROMPTS[:2])]
