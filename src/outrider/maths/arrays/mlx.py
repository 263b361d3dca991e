"""MLX. It is lazy: a value is computed when it crosses to the host. Imported once the process has imported MLX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np

from outrider.maths.arrays import numpy as in_numpy
from outrider.maths.arrays.base import (
    BELOW_ONE,
    BLOCK,
    MIX_1,
    MIX_2,
    TO_UNIT,
    Array,
    HostFloats,
    HostFloats32,
    HostInts,
    HostTruths,
)
from outrider.maths.arrays.selection import LINES, Lines, falling, probabilities_of

name = "mlx"


def owns(x: object) -> bool:
    return isinstance(x, mx.array)


def float32(x: Array, like: Array | None = None) -> Array:
    if not owns(x):
        x = mx.array(x.astype(np.float32, copy=False))
    return x.astype(mx.float32)


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    if x.dtype == mx.bfloat16:
        x = x.astype(mx.float32)
    return np.array(x)


def on_host(x: Array) -> bool:
    return False  # it is lazy anyway, and rows one by one would be many small programs


def softmax(x: Array) -> Array:
    exponentials = mx.exp(x - x.max(axis=-1, keepdims=True))
    totals = _block_sums(_block_sums(exponentials)).sum(axis=-1, keepdims=True)
    return exponentials / totals


def log_sum_exp(x: Array) -> HostFloats:
    most = x.max(axis=-1, keepdims=True)
    return np.log(sums(mx.exp(x - most))) + _floats(most[..., 0])


def largest(x: Array) -> tuple[HostFloats, HostInts]:
    # MLX's max and argmax ignore NaN.
    values = mx.where(mx.any(mx.isnan(x), axis=-1), float("nan"), x.max(axis=-1)).astype(mx.float32)
    tokens = x.argmax(axis=-1)
    mx.eval(values, tokens)  # the host waits once
    return _floats(values), np.array(tokens).astype(np.int64)


def gather(x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
    return _floats(x[mx.array(list(rows)), mx.array(list(tokens))])


def sums(x: Array) -> HostFloats:
    return np.asarray(_floats(_block_sums(x)).sum(axis=-1))


def positive_difference(x: Array, y: Array) -> Array:
    return mx.maximum(x - y, 0)


def divide(x: Array, divisor: HostFloats) -> Array:
    return x / _column(divisor)


def multiply(x: Array, factor: HostFloats) -> Array:
    return x * _column(factor)


def without(x: Array, tokens: Sequence[int]) -> Array:
    copy = mx.array(x)
    copy[mx.array(list(tokens))] = 0
    return copy


def replace(x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
    copy = mx.array(x)
    copy[mx.array(list(rows)), mx.array(list(tokens))] = mx.array(values.astype(np.float32))
    return copy


def columns(x: Array, tokens: HostInts, otherwise: float) -> Array:
    index = mx.array(tokens)
    return mx.where(index < 0, otherwise, x[:, mx.maximum(index, 0)])


def keep_where(x: Array, kept: HostTruths, otherwise: float) -> Array:
    return mx.where(mx.array(kept), x, otherwise)


def keep_where_at_least(x: Array, threshold: Array, otherwise: float) -> Array:
    return mx.where(x >= threshold, x, otherwise)


def kth_largest(x: Array, k: int) -> Array:
    return -mx.partition(-x, k - 1, axis=-1)[:, k - 1 : k]


def nucleus_threshold(probabilities: Array, mass: float) -> Array:
    descending = -mx.sort(-probabilities, axis=-1)
    rows, vocab_size = descending.shape
    blocks = mx.pad(descending, [(0, 0), (0, -vocab_size % BLOCK)]).reshape(rows, -1, BLOCK)
    before_block = mx.cumsum(blocks.sum(axis=-1, keepdims=True), axis=1, inclusive=False)
    before = (before_block + mx.cumsum(blocks, axis=-1, inclusive=False)).reshape(rows, -1)[:, :vocab_size]
    last = mx.maximum((before < mass).sum(axis=-1, keepdims=True) - 1, 0)
    return mx.take_along_axis(descending, last, axis=-1)


def concatenate(pieces: Sequence[Array]) -> Array:
    return mx.concatenate(list(pieces))


def stack(rows: Sequence[Array]) -> Array:
    return mx.stack(list(rows))


def exponential(keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
    key = mx.array(np.asarray(keys, dtype=np.uint32))  # [keys, 2]
    bits = mx.arange(vocab_size, dtype=mx.uint32)[None, :]
    for part in (0, 1):
        bits = bits ^ key[:, part, None]
        bits = (bits ^ (bits >> 16)) * mx.array(MIX_1, dtype=mx.uint32)
        bits = (bits ^ (bits >> 13)) * mx.array(MIX_2, dtype=mx.uint32)
        bits = bits ^ (bits >> 16)
    unit = mx.minimum((bits.astype(mx.float32) + 0.5) * TO_UNIT, BELOW_ONE)
    return -mx.log1p(-unit)


def race(weights: Array, exponential: Array) -> HostInts:
    return np.array((weights / exponential).argmax(axis=-1)).astype(np.int64)


def keyed_race(weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
    return race(weights, exponential(keys, weights.shape[-1], weights))


def token_at(weights: Array, share: float) -> int:
    return in_numpy.token_at(np.array(weights), share)


def top(x: Array, count: int) -> tuple[HostFloats, HostInts]:
    values, tokens = _top(x, min(count, x.shape[-1]))
    mx.eval(values, tokens)
    return falling(_floats(values), np.array(tokens))


def top_of_logits(logits: Array, count: int) -> tuple[HostInts, HostFloats32]:
    logits = logits.astype(mx.float32)
    values, tokens = _top(logits, min(count, logits.shape[-1]))
    totals = _block_sums(mx.exp(logits - values.max(axis=-1, keepdims=True)))
    mx.eval(values, tokens, totals)  # one program for all rows and numbers
    found, places = falling(_floats(values), np.array(tokens))
    return places, probabilities_of(found, sums(totals))


def _top(x: Array, count: int) -> tuple[Array, Array]:
    """The largest values [rows, count] and their places, in no order; of equal values any."""
    rows, width = x.shape
    lines = Lines(width)
    if count >= lines.columns:
        places = mx.argpartition(-x, count - 1, axis=-1)[:, :count]
        return mx.take_along_axis(x, places, axis=-1), places
    # Only the columns with the largest maxima are sorted: a GPU sorts a whole vocabulary, however few are asked for.
    padded = mx.pad(x, [(0, 0), (0, LINES * lines.columns - width)], constant_values=-math.inf)
    maxima = padded.reshape(rows, LINES, lines.columns).max(axis=1)
    best = mx.argpartition(-maxima, count - 1, axis=-1)[:, :count, None].astype(mx.int32)
    candidates = (best + mx.arange(0, LINES * lines.columns, lines.columns)).reshape(rows, LINES * count)
    values = mx.take_along_axis(padded, candidates, axis=-1)
    # A token of logit -inf still comes before what only fills the last line up.
    order = mx.where(candidates < width, mx.minimum(-values, mx.finfo(mx.float32).max), math.inf)
    chosen = mx.argpartition(order, count - 1, axis=-1)[:, :count]
    places = mx.take_along_axis(candidates, chosen, axis=-1)
    return mx.take_along_axis(values, chosen, axis=-1), places


def race_order(weights: Array, exponential: Array, count: int) -> list[int]:
    return [int(token) for token in np.array(mx.argsort(-(weights / exponential)))[:count]]


def _block_sums(x: Array) -> Array:
    """Sums of neighbours: MLX adds one number after another on a CPU, and 50,000 float32 would be off by 5e-5."""
    whole = x.shape[-1] // BLOCK * BLOCK
    if not whole:
        return x
    blocks = x[..., :whole].reshape(*x.shape[:-1], whole // BLOCK, BLOCK).sum(axis=-1)
    return blocks if whole == x.shape[-1] else mx.concatenate([blocks, x[..., whole:]], axis=-1)


def _column(numbers: HostFloats) -> Array:
    return mx.array(np.asarray(numbers, dtype=np.float32))[..., None]


def _floats(x: Array) -> HostFloats:
    return np.array(x.astype(mx.float32)).astype(np.float64)
