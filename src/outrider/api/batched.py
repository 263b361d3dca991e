"""Many prompts at once: the classic interface of the batched engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Unpack, overload

from outrider.drafters.base import Drafter
from outrider.drafters.loading import as_drafter
from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.errors import BatchError, InputError, SettingError
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy
from outrider.maths.rules import Rule, RuleName
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import PreparedRequest, prepare_request, require_samples, seeded
from outrider.prompts.settings import RequestSettings, SamplingSettings, request_of, sampling_of
from outrider.prompts.tokens import Prompt
from outrider.runtimes.base import Model
from outrider.runtimes.loading import as_model, as_tokenizer
from outrider.text import Tokenizer
from outrider.values import listed, require_function, whole


@overload
def batched_speculative_decode(
    batch_prompts: Iterable[Prompt],
    draft_model: Any,
    target_model: Any,
    max_tokens: int = ...,
    *,
    n: None = None,
    sampling: SamplingParams | Sequence[SamplingParams] | None = ...,
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = ...,
    rule: RuleName | Rule = ...,
    stop: str | Iterable[str] = ...,
    stop_token_ids: Iterable[int] | None = ...,
    tokenizer: Any = ...,
    max_rows: int = ...,
    progress: Callable[[int, int], None] | None = ...,
    **settings: Unpack[SamplingSettings],
) -> list[list[int]]: ...


@overload
def batched_speculative_decode(
    batch_prompts: Iterable[Prompt],
    draft_model: Any,
    target_model: Any,
    max_tokens: int = ...,
    *,
    n: int,
    sampling: SamplingParams | Sequence[SamplingParams] | None = ...,
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = ...,
    rule: RuleName | Rule = ...,
    stop: str | Iterable[str] = ...,
    stop_token_ids: Iterable[int] | None = ...,
    tokenizer: Any = ...,
    max_rows: int = ...,
    progress: Callable[[int, int], None] | None = ...,
    **settings: Unpack[SamplingSettings],
) -> list[list[list[int]]]: ...


def batched_speculative_decode(
    batch_prompts: Iterable[Prompt],
    draft_model: Any,
    target_model: Any,
    max_tokens: int = 100,
    *,
    n: int | None = None,
    sampling: SamplingParams | Sequence[SamplingParams] | None = None,
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = None,
    rule: RuleName | Rule = "token",
    stop: str | Iterable[str] = (),
    stop_token_ids: Iterable[int] | None = None,
    tokenizer: Any = None,
    max_rows: int = 8,
    progress: Callable[[int, int], None] | None = None,
    **settings: Unpack[SamplingSettings],
) -> list[list[int]] | list[list[list[int]]]:
    """Continue many prompts, several at a time; each output has exactly the target's distribution.

    The prompts may differ in length. Texts that are finished make room for those that wait. By default every text has a
    lookahead of its own in every round, the one with the highest expected tokens per second for all of them together.

    Args:
        batch_prompts: each a text, token ids as a list or an array [tokens] or [1, tokens] of any library, or a
            conversation, a list of messages.
        draft_model, target_model: as for SpeculativeDecoder.
        max_tokens: the most tokens to emit for each prompt.
        n: how many samples to draw for each prompt; None draws one, and a number gives a list for each prompt.
        sampling: for all prompts, or one for each. Where there is one for all and it has a seed, prompt i is decoded
            with seed + i, and its sample j with seed + i * n + j.
        lookahead: None chooses by measured goodput; or a number, an AdaptiveSpeculator or a policy.
        rule: token, block or coupled.
        stop: strings that end a text; they need a tokenizer.
        stop_token_ids: tokens that end a text; default the target's own.
        tokenizer: where the models come without one.
        max_rows: how many texts are decoded at once.
        progress: told (texts finished, all texts).
        settings: single sampling settings by their names: temperature, top_p, seed ... as in SamplingParams.

    Returns:
        For each prompt the emitted tokens, a stop token included, the prompt left out; with n, a list of n of these.

    Raises:
        InputError: a prompt is empty, too long, or holds an unknown token; nothing is decoded then.
        BatchError: the target failed on some prompts; the error holds the outputs of all.
        VocabularyError, SettingError, ModelError: as SpeculativeDecoder.
    """
    target = as_model(target_model, tokenizer)
    drafter = as_drafter(draft_model, target, tokenizer)
    words = as_tokenizer(tokenizer) if tokenizer is not None else target.tokenizer
    samples = 1 if n is None else n
    require_samples(samples)
    whole("max_rows", max_rows, 1)
    if progress is not None:
        require_function("progress", progress)
    prompts = listed("batch_prompts", batch_prompts, "a list of prompts")
    params = _params(sampling, settings, len(prompts), samples)

    def prepared(number: int, prompt: Prompt) -> list[PreparedRequest]:
        try:
            settings: RequestSettings = {"max_tokens": max_tokens, "stop": stop, "stop_token_ids": stop_token_ids}
            ready = prepare_request(request_of(prompt, settings), target, words)
        except InputError as error:
            raise InputError(f"prompt {number} cannot be decoded: {error}") from error
        needs_text = bool(ready.stop)
        return [replace(ready, sampling=each, detokenize=needs_text) for each in params[number]]

    requests = [request for number, prompt in enumerate(prompts) for request in prepared(number, prompt)]
    outputs = _decode(requests, target, drafter, lookahead, rule, words, max_rows, progress) if requests else []
    if n is None:
        return outputs
    return [outputs[first : first + n] for first in range(0, len(outputs), n)]


def _decode(
    requests: Sequence[PreparedRequest],
    target: Model,
    drafter: Drafter | None,
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None,
    rule: RuleName | Rule,
    tokenizer: Tokenizer | None,
    max_rows: int,
    progress: Callable[[int, int], None] | None,
) -> list[list[int]]:
    """The emitted tokens of each request."""
    longest = max(len(request.prompt) + request.max_tokens for request in requests)
    engine = Engine(
        target,
        drafter,
        lookahead=lookahead,
        rule=rule,
        tokenizer=tokenizer,
        max_rows=min(max_rows, len(requests)),
        capacity=min(longest, target.traits.context_length),
        max_waiting=len(requests),
    )
    handles = [engine.submit(request) for request in requests]
    _run(engine, handles, progress)
    failed = [number for number, handle in enumerate(handles) if handle.error is not None]
    outputs = [handle.tokens for handle in handles]
    if failed:
        first = handles[failed[0]].error
        raise BatchError(
            f"{len(failed)} of {len(requests)} prompts failed, the first of them number {failed[0]}: {first} "
            "(what was decoded is in .outputs)",
            outputs,
        ) from first
    return outputs


def _run(engine: Engine, handles: Sequence[Handle], progress: Callable[[int, int], None] | None) -> None:
    finished = 0
    while not engine.idle:
        finished += sum(event.finish_reason is not None for event in engine.step())
        if progress is not None:
            progress(finished, len(handles))
    if progress is not None:
        progress(len(handles), len(handles))


def _params(
    sampling: SamplingParams | Sequence[SamplingParams] | None, settings: SamplingSettings, count: int, samples: int
) -> list[list[SamplingParams]]:
    """For each prompt the settings of each of its samples."""
    if sampling is None or isinstance(sampling, SamplingParams):
        every = seeded(sampling_of(sampling, settings), count * samples)
        return [every[first : first + samples] for first in range(0, len(every), samples)]
    if not isinstance(sampling, Sequence):
        raise SettingError(f"sampling is a {type(sampling).__name__}: give SamplingParams(...), or one for each prompt")
    if len(sampling) != count:
        raise SettingError(f"there are {len(sampling)} sampling settings for {count} prompts: give one, or one each")
    return [seeded(sampling_of(each, settings), samples) for each in sampling]
