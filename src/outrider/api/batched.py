"""Many prompts at once: the classic interface of the batched engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from outrider.drafters.loading import as_drafter
from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.errors import BatchError, InputError, SettingError
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy
from outrider.maths.rules import Rule, RuleName
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import PreparedRequest, Request, prepare_request, seeded
from outrider.runtimes.loading import as_model, as_tokenizer


def batched_speculative_decode(
    batch_prompts: Iterable[str | Sequence[int] | Any],
    draft_model: Any,
    target_model: Any,
    max_tokens: int = 100,
    *,
    sampling: SamplingParams | Sequence[SamplingParams] | None = None,
    lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = None,
    rule: RuleName | Rule = "token",
    stop: str | Iterable[str] = (),
    stop_token_ids: Iterable[int] | None = None,
    tokenizer: Any = None,
    max_rows: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Continue many prompts, several at a time; each output has exactly the target's distribution.

    The prompts may differ in length. Texts that are finished make room for those that wait. By default every text has a
    lookahead of its own in every round, chosen so that drafting and verifying all of them together promises most tokens
    per second.

    Args:
        batch_prompts: each a text, or token ids as a list or an array [tokens] or [1, tokens] of any library.
        draft_model, target_model: as for SpeculativeDecoder.
        max_tokens: the most tokens to emit for each prompt.
        sampling: for all prompts, or one for each. Where there is one for all and it has a seed, prompt i is decoded
            with seed + i.
        lookahead: None chooses by measured goodput; or a number, an AdaptiveSpeculator or a policy.
        rule: token, block or coupled.
        stop: strings that end a text; they need a tokenizer.
        stop_token_ids: tokens that end a text; default the target's own.
        tokenizer: where the models come without one.
        max_rows: how many texts are decoded at once.
        progress: told (prompts finished, all prompts).

    Returns:
        For each prompt the emitted tokens, a stop token included, the prompt left out.

    Raises:
        InputError: a prompt is empty, too long, or holds an unknown token; nothing is decoded then.
        BatchError: the target failed on some prompts; the error holds the outputs of all.
        VocabularyError, SettingError, ModelError: as SpeculativeDecoder.
    """
    target = as_model(target_model, tokenizer)
    drafter = as_drafter(draft_model, target, tokenizer)
    words = as_tokenizer(tokenizer) if tokenizer is not None else target.tokenizer
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    ends = None if stop_token_ids is None else frozenset(stop_token_ids)
    prompts = list(batch_prompts)

    def prepared(place: int, prompt: Any, settings: SamplingParams) -> PreparedRequest:
        try:
            request = Request(prompt, max_tokens, settings, ends, stops, detokenize=bool(stops))
            return prepare_request(request, target, words)
        except InputError as error:
            raise InputError(f"prompt {place} cannot be decoded: {error}") from error

    requests = [
        prepared(place, prompt, settings)
        for place, (prompt, settings) in enumerate(zip(prompts, _settings(sampling, len(prompts)), strict=True))
    ]
    if not requests:
        return []
    capacity = min(max(len(request.prompt) for request in requests) + max_tokens, target.traits.context_length)
    engine = Engine(
        target,
        drafter,
        lookahead=lookahead,
        rule=rule,
        tokenizer=words,
        max_rows=min(max_rows, len(prompts)),
        capacity=capacity,
        max_waiting=len(prompts),
    )
    handles = [engine.submit(request) for request in requests]
    _run(engine, handles, progress)
    failed = [place for place, handle in enumerate(handles) if handle.error is not None]
    outputs = [handle.tokens for handle in handles]
    if failed:
        raise BatchError(
            f"{len(failed)} of {len(prompts)} prompts failed, the first of them number {failed[0]}: "
            f"{handles[failed[0]].error} (what was decoded is in .outputs)",
            outputs,
        ) from handles[failed[0]].error
    return outputs


def _run(engine: Engine, handles: Sequence[Handle], progress: Callable[[int, int], None] | None) -> None:
    finished = 0
    while not engine.idle:
        finished += sum(event.finish_reason is not None for event in engine.step())
        if progress is not None:
            progress(finished, len(handles))
    if progress is not None:
        progress(len(handles), len(handles))


def _settings(sampling: SamplingParams | Sequence[SamplingParams] | None, count: int) -> list[SamplingParams]:
    """One for each prompt, with seeds."""
    if sampling is None or isinstance(sampling, SamplingParams):
        return seeded(sampling or SamplingParams(), count)
    if len(sampling) != count:
        raise SettingError(f"there are {len(sampling)} sampling settings for {count} prompts: give one, or one each")
    return list(sampling)
