"""What transformers asks for, in Outrider's terms; what cannot be done exactly is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outrider.errors import SettingError, shown
from outrider.maths.arrays import Array
from outrider.maths.sampling import SamplingParams

# Processors that generate() makes of its own settings, and our settings that do the same in the same order.
KNOWN = {
    "RepetitionPenaltyLogitsProcessor": ("repetition_penalty", "penalty"),
    "TemperatureLogitsWarper": ("temperature", "temperature"),
    "TopKLogitsWarper": ("top_k", "top_k"),
    "TopPLogitsWarper": ("top_p", "top_p"),
    "MinPLogitsWarper": ("min_p", "min_p"),
}
# They remember earlier calls, or look at more than the text: along a draft they would be asked about texts that never
# come to be.
STATEFUL = (
    "UnbatchedClassifierFreeGuidanceLogitsProcessor",
    "SynthIDTextWatermarkLogitsProcessor",
    "WhisperTimeStampLogitsProcessor",
)
# What a call may hold besides the prompt: made by generate() itself, and of no consequence here.
HARMLESS = ("position_ids", "use_cache", "logits_to_keep", "cache_position")
CACHES = ("past_key_values", "cache_params")  # the second of models whose state recurs
UNSUPPORTED_OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")


def sampling_of(processors: Sequence[Any], config: Any, prompt: Sequence[int], seed: int) -> SamplingParams:
    """The settings of one row.

    Args:
        processors: transformers' logits processors, in their order.
        config: its GenerationConfig.
        prompt: token ids of the row.

    Raises:
        SettingError: a processor cannot be asked along a draft.
    """
    names = [type(each).__name__ for each in processors]
    bad = next((name for name in names if name in STATEFUL), None)
    if bad is not None:
        raise SettingError(
            f"logits processor {bad} remembers earlier calls and cannot be used with drafts: leave it out"
        )
    found: dict[str, Any] = {"temperature": 1.0}
    order = [list(KNOWN).index(name) if name in KNOWN else -1 for name in names]
    if -1 not in order and order == sorted(set(order)):
        for processor, (setting, attribute) in zip(processors, (KNOWN[name] for name in names), strict=True):
            found[setting] = getattr(processor, attribute)
    else:  # others, or another order: transformers' own functions do all of it
        found["logits_processors"] = (_asked(processors, prompt),)
    if not config.do_sample:
        found["temperature"] = 0.0
    return SamplingParams(**found, seed=seed)


def _asked(processors: Sequence[Any], prompt: Sequence[int]) -> Callable[[Sequence[int], Array], Array]:
    """The processors as one of ours: a function of the output so far and the logits of one position."""

    def process(output: Sequence[int], logits: Array) -> Array:
        import torch

        text = torch.tensor([[*prompt, *output]], device=logits.device)
        scores = logits[None].clone()
        for processor in processors:
            scores = processor(text, scores)
        return scores[0]

    return process


def prompts_of(input_ids: Any, attention_mask: Any) -> list[list[int]]:
    """The rows without their padding.

    Raises:
        SettingError: a mask hides tokens within a text.
    """
    rows: list[list[int]] = input_ids.tolist()
    if attention_mask is None:
        return rows
    prompts = []
    for number, (row, mask) in enumerate(zip(rows, attention_mask.tolist(), strict=True)):
        first = next((place for place, seen in enumerate(mask) if seen), len(mask))
        if not all(mask[first:]):
            raise SettingError(
                f"attention_mask of row {number} hides tokens within the text: pad on the left (padding_side='left')"
            )
        prompts.append(row[first:])
    return prompts


def require_supported(config: Any, model_kwargs: Mapping[str, Any]) -> None:
    """Refuse what the loop does not do.

    Raises:
        SettingError: beams, contrastive or constrained search, scores, a filled cache, or inputs other than tokens.
    """
    if (config.num_beams or 1) > 1:
        raise SettingError(f"num_beams is {config.num_beams}: Outrider samples or takes the most probable token; use 1")
    for name in ("penalty_alpha", "dola_layers", "prompt_lookup_num_tokens"):
        if getattr(config, name, None):
            raise SettingError(f"{name} is {shown(getattr(config, name))}: another way to decode; leave it out")
    for name in UNSUPPORTED_OUTPUTS:
        if getattr(config, name, None):
            raise SettingError(f"{name} is asked for, which Outrider does not keep: leave it out")
    for name in CACHES:
        if model_kwargs.get(name) is not None and _holds_text(model_kwargs[name]):
            raise SettingError(f"{name} holds a text: Outrider has caches of its own; leave it out")
    known = (*HARMLESS, *CACHES, "attention_mask")
    # generate() itself gives an empty dictionary of pictures to models that see some.
    given = (name for name, value in model_kwargs.items() if value is not None and not _is_empty(value))
    other = next((name for name in given if name not in known), None)
    if other is not None:
        raise SettingError(f"{other} is given: Outrider decodes from token ids alone; leave it out")


def _is_empty(value: object) -> bool:
    return isinstance(value, Mapping) and not value


def _holds_text(cache: Any) -> bool:
    try:
        return bool(cache.get_seq_length())
    except ValueError:  # where nothing attends, no tokens are counted
        return bool(cache.has_previous_state())
