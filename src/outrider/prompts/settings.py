"""What is asked for besides the prompt, as plain keywords: the one list of names and types that all doors take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, cast

from outrider.errors import SettingError, shown
from outrider.maths.processors import LogitsProcessor
from outrider.maths.rules import RuleName
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import Request
from outrider.prompts.tokens import Prompt
from outrider.structured import Grammar


class SamplingSettings(TypedDict, total=False):
    """The fields of SamplingParams, each of which may be left out."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    seed: int | None
    logits_processors: tuple[LogitsProcessor, ...]


class RequestSettings(SamplingSettings, total=False):
    """The fields of Request besides the prompt, and those of SamplingParams.

    Attributes:
        max_tokens: the most tokens to emit; fewer where the model's context ends.
        sampling: settings that hold where none is given by name; default SamplingParams(), which samples at
            temperature 1.
        stop: strings that end the text, or a single one; they are left out of it.
        stop_token_ids: tokens that end the text; default the target's own.
        predicted: text or token ids that you expect in the output, for drafters that copy from it.
        logprobs: True reports the target's log probability of every token; a number k also those of the k most probable
            tokens.
        detokenize: False leaves out the text.
        structured: what the output may look like, such as outrider.structured.json_schema({...}).
        tools: descriptions of functions that the model may call, for a conversation.
        num_draft_tokens: the most draft tokens of a round; 0 decodes plainly, None leaves it to the lookahead.
        rule: token, block or coupled, for this text; None takes the one that the decoder was opened with.
    """

    max_tokens: int
    sampling: SamplingParams | None
    stop: str | Iterable[str]
    stop_token_ids: Iterable[int] | None
    predicted: str | Sequence[int] | Any
    logprobs: bool | int
    detokenize: bool
    structured: Grammar | None
    tools: Iterable[Mapping[str, Any]]
    num_draft_tokens: int | None
    rule: RuleName | None


def sampling_of(sampling: SamplingParams | None, settings: SamplingSettings) -> SamplingParams:
    """The settings that hold: `sampling`, or the defaults, with those changed that are given by name.

    Raises:
        SettingError: a value is out of its range.
    """
    if sampling is None:
        return SamplingParams(**settings)
    if not isinstance(sampling, SamplingParams):
        raise SettingError(f"sampling is {shown(sampling)}: it must be SamplingParams(...)")
    return replace(sampling, **settings)


def request_of(prompt: Prompt, settings: RequestSettings) -> Request:
    """The request for a prompt.

    Raises:
        InputError, SettingError: as Request and SamplingParams.
    """
    asked: dict[str, Any] = dict(settings)
    by_name = {name: asked.pop(name) for name in SamplingSettings.__annotations__ if name in asked}
    sampling = sampling_of(asked.pop("sampling", None), cast(SamplingSettings, by_name))
    return Request(prompt, sampling=sampling, **asked)
