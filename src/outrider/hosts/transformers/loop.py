"""`model.generate(..., custom_generate=outrider.generate)`: transformers prepares, Outrider decodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from outrider.engine.engine import Engine
from outrider.engine.handle import Handle
from outrider.errors import BatchError
from outrider.hosts.transformers.settings import prompts_of, require_supported, sampling_of
from outrider.maths.rules import RuleName
from outrider.prompts.request import Request
from outrider.runtimes.loading import as_model

MOST_SEEDS = 2**62
# What generate() itself ends a text by; other criteria are asked after every token.
OWN_CRITERIA = ("MaxLengthCriteria", "EosTokenCriteria")


def generate(
    model: Any,
    input_ids: Any,
    logits_processor: Any = None,
    stopping_criteria: Any = None,
    generation_config: Any = None,
    synced_gpus: bool = False,
    drafter: Any = "lookup",
    lookahead: Any = None,
    rule: RuleName = "token",
    max_rows: int = 8,
    **model_kwargs: Any,
) -> Any:
    """Decode a batch speculatively for transformers' `generate`, with the same distribution as its own loop.

        model.generate(**inputs, custom_generate=outrider.generate, max_new_tokens=100, drafter="lookup")

    Greedy texts are those of transformers; samples have its distribution, and `torch.manual_seed` reproduces them.
    Batches, padding on the left, several return sequences, processors and stopping criteria work. A streamer does not:
    transformers gives none to a custom loop.

    Args:
        model, input_ids, logits_processor, stopping_criteria, generation_config, synced_gpus, model_kwargs: what
            transformers hands to a decoding loop.
        drafter, lookahead, rule, max_rows: as for `outrider.Engine`.

    Returns:
        LongTensor [rows, prompt + the longest output], padded on the right with the pad token; or transformers'
        GenerateDecoderOnlyOutput where return_dict_in_generate asks for it.

    Raises:
        SettingError: the call asks for what Outrider does not do; it names it.
        BatchError: the model failed on some rows.
    """
    import torch

    require_supported(generation_config, model_kwargs)
    prompts = prompts_of(input_ids, model_kwargs.get("attention_mask"))
    processors = list(logits_processor or ())
    room = generation_config.max_length - input_ids.shape[1]
    seeds = torch.randint(MOST_SEEDS, (len(prompts),)).tolist()
    criteria = [each for each in stopping_criteria or () if type(each).__name__ not in OWN_CRITERIA]
    requests = [
        Request(
            prompt,
            room,
            sampling_of(processors, generation_config, prompt, seed),
            stop_token_ids=_stops(generation_config),
            detokenize=False,
        )
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
    if room > 0:
        target = as_model(model)
        engine = Engine(
            target,
            drafter,
            lookahead=lookahead,
            rule=rule,
            max_rows=min(max_rows, len(prompts)),
            capacity=min(max(map(len, prompts)) + room, target.traits.context_length),
            max_waiting=len(prompts),
        )
        outputs = _decode(engine, requests, _stopper(criteria, input_ids))
    else:
        outputs = [[] for _ in prompts]
    return _result(input_ids, outputs, generation_config)


def _stops(config: Any) -> frozenset[int]:
    stop = config.eos_token_id
    return frozenset() if stop is None else frozenset(stop if isinstance(stop, Sequence) else [int(stop)])


def _decode(
    engine: Engine, requests: Sequence[Request], stops: Callable[[int, Sequence[int]], bool] | None
) -> list[list[int]]:
    """The output of each request."""
    handles = [engine.submit(request) for request in requests]
    rows = {handle.id: row for row, handle in enumerate(handles)}
    outputs: list[list[int]] = [[] for _ in handles]
    ended: set[int] = set()
    while not engine.idle:
        for event in engine.step():
            row = rows[event.sequence]
            if row in ended:
                continue
            outputs[row].append(event.token)
            if stops is not None and stops(row, outputs[row]):
                ended.add(row)
                handles[row].cancel()
    _raise_failures(handles, outputs)
    return outputs


def _raise_failures(handles: Sequence[Handle], outputs: list[list[int]]) -> None:
    failed = [row for row, handle in enumerate(handles) if handle.error is not None]
    if failed:
        first = handles[failed[0]].error
        raise BatchError(
            f"{len(failed)} of {len(handles)} rows failed, the first of them row {failed[0]}: {first} "
            "(what was decoded is in .outputs)",
            outputs,
        ) from first


def _stopper(criteria: Sequence[Any], input_ids: Any) -> Callable[[int, Sequence[int]], bool] | None:
    """Whether a row's output ends here, by transformers' criteria; None where there are none."""
    if not criteria:
        return None
    import torch

    def ends(row: int, output: Sequence[int]) -> bool:
        text = torch.cat([input_ids[row], input_ids.new_tensor(output)])[None]
        return any(bool(torch.as_tensor(each(text, None)).any()) for each in criteria)

    return ends


def _result(input_ids: Any, outputs: Sequence[Sequence[int]], config: Any) -> Any:
    longest = max(map(len, outputs))
    stop = config.eos_token_id
    pad = config.pad_token_id
    if pad is None:  # as generate() does
        pad = 0 if stop is None else stop[0] if isinstance(stop, Sequence) else stop
    tail = input_ids.new_full((len(outputs), longest), pad)
    for row, output in enumerate(outputs):
        tail[row, : len(output)] = input_ids.new_tensor(output)
    import torch

    sequences = torch.cat([input_ids, tail], dim=1)
    if not config.return_dict_in_generate:
        return sequences
    from transformers.generation import GenerateDecoderOnlyOutput

    return GenerateDecoderOnlyOutput(sequences=sequences)
