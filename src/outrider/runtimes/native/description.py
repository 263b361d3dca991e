"""What a model is made of, whatever its files: the sizes, the rotary frequencies, the windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Frequencies = np.ndarray[Any, np.dtype[np.float32]]
LONGEST = 2**30  # tokens of context
LARGEST_HEAD = 512  # numbers, for which the library has room
NO_ROTATION = -1


class Unknown(Exception):
    """The native runtime does not compute this model; the message says why."""


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding (arXiv 2104.09864).

    Attributes:
        frequencies: float32 [pairs], of the pairs of dimensions that are turned.
        scale: of cosines and sines (YaRN's attention factor).
    """

    frequencies: Frequencies
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Mixture:
    """The experts of a model.

    Attributes:
        count: experts of a layer.
        used: by each token.
        inner: the width of each.
        normalised: whether the weights of those that a token uses have the sum 1.
        layers: for each layer whether it has experts.
        shared: the width of the expert that every token uses, weighted by a sigmoid; 0 where there is none.
    """

    count: int
    used: int
    inner: int
    normalised: bool
    layers: tuple[bool, ...]
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Description:
    """A Llama-like decoder.

    Attributes:
        inner: the width of the MLP.
        epsilon: of the RMS norms.
        context_length: the longest sequence, in tokens.
        stated_length: what the files say of it, where rotations change before (longrope); 0 where it is the same.
        rotaries: that layers choose from.
        windows: for each layer how many tokens a token sees, itself included; 0 is all.
        rotations: for each layer which of `rotaries` turns queries and keys; NO_ROTATION is none.
        tied: whether the output head is the embedding.
        stop: tokens that end a text.
        mixture: the experts; None where no layer has any.
        activation: of the MLP's gate; gelu is the one with tanh, clamped that of gpt-oss.
        embedding_scale: of embeddings.
        residual_scale: of what a layer's attention and MLP add.
        attention_scale: of products of queries and keys; None is 1 / sqrt(head_size).
        logit_divisor: of logits.
        query_slope, query_step: queries are multiplied by 1 + slope * log(1 + position // step); a slope of 0 is none.
        norms_last: whether the norms of heads come after their rotation.
        attention_cap, logit_cap: scores and logits x become cap * tanh(x / cap); 0 is none.
    """

    layers: int
    hidden: int
    heads: int
    key_heads: int
    head_size: int
    inner: int
    vocabulary: int
    epsilon: float
    context_length: int
    rotaries: tuple[Rotary, ...]
    windows: tuple[int, ...]
    rotations: tuple[int, ...]
    tied: bool
    stop: frozenset[int] = frozenset()
    mixture: Mixture | None = None
    activation: Literal["silu", "gelu", "clamped"] = "silu"
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    logit_divisor: float = 1.0
    query_slope: float = 0.0
    query_step: int = 1
    norms_last: bool = False
    attention_cap: float = 0.0
    logit_cap: float = 0.0
    stated_length: int = 0


def plain_frequencies(base: float, size: int) -> Frequencies:
    """1 / base^(2 i / size), in float32 as transformers computes it."""
    found: Frequencies = np.float32(1.0) / _powers(base, size)
    return found


def _powers(base: float, size: int) -> Frequencies:
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    found: Frequencies = np.power(np.float32(base), exponents, dtype=np.float32)
    return found


def rotary_of(parameters: Mapping[str, Any], size: int, longest: int) -> Rotary:
    """The rotary embedding that `rope_parameters` of a config.json describe.

    Args:
        size: how many dimensions of a head are turned.
        longest: the context length of the model.

    Raises:
        Unknown: a kind or a setting that is not computed here.
    """
    if not 2 <= size <= LARGEST_HEAD or size % 2:
        raise Unknown(f"it turns {size} numbers of a head: an even number up to {LARGEST_HEAD} is computed")
    base = _number(parameters, "rope_theta")
    frequencies = plain_frequencies(base, size)
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind == "default":
        return Rotary(frequencies)
    if kind == "linear":
        return Rotary((frequencies / np.float32(_number(parameters, "factor"))).astype(np.float32))
    if kind == "llama3":
        return Rotary(_llama3(frequencies, parameters))
    if kind == "yarn":
        return _yarn(parameters, base, size, longest)
    raise Unknown(f"its rotary embedding is of the kind {kind!r}")


def _llama3(frequencies: Frequencies, parameters: Mapping[str, Any]) -> Frequencies:
    """Llama 3.1: low frequencies are divided by a factor, high ones stay, those between are mixed."""
    factor, low = _number(parameters, "factor"), _number(parameters, "low_freq_factor")
    high, before = _number(parameters, "high_freq_factor"), _number(parameters, "original_max_position_embeddings")
    if high <= low:
        raise Unknown(f"its high_freq_factor {high} is not above its low_freq_factor {low}")
    lengths = 2 * math.pi / frequencies
    smooth = (before / lengths - low) / (high - low)
    mixed = (1 - smooth) * frequencies / factor + smooth * frequencies
    chosen = np.where(
        lengths > before / low, frequencies / factor, np.where(lengths < before / high, frequencies, mixed)
    )
    return chosen.astype(np.float32)


def _yarn(parameters: Mapping[str, Any], base: float, size: int, longest: int) -> Rotary:
    """YaRN (arXiv 2309.00071), with the defaults of transformers."""
    factor = _number(parameters, "factor")
    before = float(parameters.get("original_max_position_embeddings") or longest)
    fast, slow = float(parameters.get("beta_fast") or 32), float(parameters.get("beta_slow") or 1)

    def dimension(turns: float) -> float:
        return size * math.log(before / (turns * 2 * math.pi)) / (2 * math.log(base))

    first, last = dimension(fast), dimension(slow)
    if parameters.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, size - 1)
    ramp = np.clip((np.arange(size // 2) - first) / max(last - first, 0.001), 0, 1)
    plain = 1.0 / base ** (np.arange(0, size, 2) / size)
    frequencies = plain / factor * ramp + plain * (1 - ramp)
    scale = parameters.get("attention_factor")
    if scale is None:
        mscales = [parameters.get(key) for key in ("mscale", "mscale_all_dim")]
        above, below = (
            (_number(parameters, key) for key in ("mscale", "mscale_all_dim")) if all(mscales) else (1.0, 0.0)
        )
        scale = (0.1 * above * math.log(factor) + 1.0) / (0.1 * below * math.log(factor) + 1.0) if factor > 1 else 1.0
    return Rotary(frequencies.astype(np.float32), float(scale))


def longrope(parameters: Mapping[str, Any], size: int, longest: int, before: int) -> Rotary:
    """LongRoPE (arXiv 2402.13753) as Phi has it, for texts up to the length `before`.

    Beyond it frequencies change for the whole text.

    Raises:
        Unknown: a setting that is not computed here.
    """
    factors = parameters.get("short_factor")
    if not isinstance(factors, list) or len(factors) != size // 2:
        raise Unknown(f"its rotary embedding has not {size // 2} short factors")
    divisors = np.array([_number({"short_factor": each}, "short_factor") for each in factors], np.float32)
    scale = parameters.get("attention_factor")
    if scale is None:
        factor = longest / before if parameters.get("factor") is None else _number(parameters, "factor")
        scale = math.sqrt(1 + math.log(factor) / math.log(before)) if factor > 1 else 1.0
    frequencies = np.float32(1.0) / (divisors * _powers(_number(parameters, "rope_theta"), size))
    return Rotary(frequencies.astype(np.float32), _number({"attention_factor": scale}, "attention_factor"))


def _number(parameters: Mapping[str, Any], key: str) -> float:
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise Unknown(f"its rotary embedding says {key} is {value!r}")
    return float(value)
