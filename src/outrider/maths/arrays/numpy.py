"""NumPy: the reference. Every other library must agree with it up to rounding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from outrider.maths.arrays.base import (
    BELOW_ONE,
    BLOCK,
    MIX_1,
    MIX_2,
    TO_UNIT,
    Array,
    HostBits,
    HostFloats,
    HostFloats32,
    HostInts,
    HostTruths,
)
from outrider.maths.arrays.selection import Lines, leading, pieces, probabilities_of

RACE_MARGIN = 1e-5  # far more than float32 rounds
FEW_ROWS = 8  # of which single numbers are read sooner than by an index over all
FEW_TOKENS = 64  # whose logarithms take less time than to find out which of them are needed
# Made once: with few tokens it would take as long to make these as to use them.
FIRST_MIX, SECOND_MIX, BY_13, BY_16 = (np.uint32(number) for number in (MIX_1, MIX_2, 13, 16))
HALF, UNIT, MOST = (np.float32(number) for number in (0.5, TO_UNIT, BELOW_ONE))

name = "numpy"


def owns(x: object) -> bool:
    return isinstance(x, np.ndarray)


def float32(x: Array, like: Array | None = None) -> Array:
    return x.astype(np.float32, copy=False)


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    return np.asarray(x)


def on_host(x: Array) -> bool:
    return True


def softmax(x: Array) -> Array:
    exponentials = _exponentials(x, np.maximum.reduce(x, axis=-1, keepdims=True))
    # Quicker than to divide each of them.
    exponentials *= np.reciprocal(np.add.reduce(exponentials, axis=-1, keepdims=True))
    return exponentials


def log_sum_exp(x: Array) -> HostFloats:
    most = x.max(axis=-1, keepdims=True)
    return np.asarray(np.log(sums(_exponentials(x, most))) + most[:, 0])


def _exponentials(x: Array, most: Array) -> Array:
    """exp(x - most), where `most` is [rows, 1] and the largest of each row."""
    with np.errstate(invalid="ignore"):  # infinities become NaN, which is what is asked for
        exponentials = x - most
    return np.exp(exponentials, out=exponentials)


def largest(x: Array) -> tuple[HostFloats, HostInts]:
    index = x.argmax(axis=-1)  # NumPy's argmax returns the first NaN if there is one
    if len(x) > FEW_ROWS:
        values = x[np.arange(len(x)), index].astype(np.float64)
    else:
        values = np.array([x.item(row, place) for row, place in enumerate(index.tolist())], dtype=np.float64)
    return values, index.astype(np.int64, copy=False)


def gather(x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
    if len(rows) > FEW_ROWS:
        return np.asarray(x[rows, tokens], dtype=np.float64)
    return np.array([x.item(*place) for place in zip(rows, tokens, strict=True)], dtype=np.float64)


def sums(x: Array) -> HostFloats:
    return np.asarray(np.add.reduce(x, axis=-1, dtype=np.float64))


def positive_difference(x: Array, y: Array) -> Array:
    return np.maximum(x - y, np.float32(0))


def divide(x: Array, divisor: HostFloats) -> Array:
    return x / np.asarray(divisor, dtype=np.float32)[..., None]


def multiply(x: Array, factor: HostFloats) -> Array:
    return x * np.asarray(factor, dtype=np.float32)[..., None]


def without(x: Array, tokens: Sequence[int]) -> Array:
    copy = x.copy()
    copy[list(tokens)] = 0
    return copy


def replace(x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
    copy = x.copy()
    copy[rows, tokens] = values
    return copy


def columns(x: Array, tokens: HostInts, otherwise: float) -> Array:
    return np.where(tokens < 0, np.float32(otherwise), x[:, tokens])


def keep_where(x: Array, kept: HostTruths, otherwise: float) -> Array:
    return np.where(kept, x, np.float32(otherwise))


def keep_where_at_least(x: Array, threshold: Array, otherwise: float) -> Array:
    return np.where(x >= threshold, x, np.float32(otherwise))


def kth_largest(x: Array, k: int) -> Array:
    return np.partition(x, -k, axis=-1)[:, -k, None]


def nucleus_threshold(probabilities: Array, mass: float) -> Array:
    descending = -np.sort(-probabilities, axis=-1)
    before = np.cumsum(descending, axis=-1, dtype=np.float64) - descending
    last = np.maximum((before < mass).sum(axis=-1) - 1, 0)
    return np.take_along_axis(descending, last[:, None], axis=-1)


def concatenate(pieces: Sequence[Array]) -> Array:
    return np.concatenate(pieces)


def stack(rows: Sequence[Array]) -> Array:
    return np.array(rows)  # for short rows np.stack takes five times as long


def exponential(keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
    return exponential_of_tokens(keys, np.arange(vocab_size))


def exponential_of_tokens(keys: Sequence[tuple[int, int]], tokens: HostInts) -> Array:
    """[keys, tokens]: the noise of some tokens only."""
    folded = _folded(tokens.astype(np.uint32))
    bits = _bits(*keys[0], folded)[None] if len(keys) == 1 else np.array([_bits(*key, folded) for key in keys])
    return _exponential_of_bits(bits)


def _exponential_of_bits(bits: HostBits) -> Array:
    noise = bits.astype(np.float32)  # every step in place: a row of the vocabulary is large
    noise += HALF
    noise *= UNIT
    np.minimum(noise, MOST, out=noise)
    np.negative(noise, out=noise)
    np.log1p(noise, out=noise)
    return np.negative(noise, out=noise)


def _bits(first: int, second: int, folded_tokens: HostBits) -> HostBits:
    """[tokens]: the hash of a key, which is two words, and each token: the noise is made of it.

    A second folding undoes the first, and both sides of an exclusive or may be folded by themselves: what ends the
    first round of the mixer, the key, and what begins the second are one exclusive or with the folded key.
    """
    bits = folded_tokens ^ np.uint32(first ^ (first >> 16))
    bits *= FIRST_MIX
    bits ^= bits >> BY_13
    bits *= SECOND_MIX
    bits ^= np.uint32(second ^ (second >> 16))
    bits *= FIRST_MIX
    bits ^= bits >> BY_13
    bits *= SECOND_MIX
    return _folded(bits)


def race(weights: Array, exponential: Array) -> HostInts:
    return np.asarray((weights / exponential).argmax(axis=-1), dtype=np.int64)


def keyed_race(weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
    return np.array([_winner(row, key) for row, key in zip(weights, keys, strict=True)], dtype=np.int64)


def _winner(weights: Array, key: tuple[int, int]) -> int:
    bits = _bits(*key, _all_folded(len(weights)))
    if len(weights) <= FEW_TOKENS:
        return int((weights / _exponential_of_bits(bits)).argmax())
    # -log(1 - u) is at least u, so weight / u is an upper bound that takes no logarithm. Only tokens whose bound
    # reaches the exact value of the token with the largest bound can win.
    bounds: Array = bits.astype(np.float32)
    bounds += HALF
    np.divide(weights, bounds, out=bounds)  # weight / u x 2^-32
    first = bounds.argmax(keepdims=True)
    reached = float((weights[first] / _exponential_of_bits(bits[first]))[0])
    candidates = (bounds >= reached * TO_UNIT * (1 - RACE_MARGIN)).nonzero()[0]
    if len(candidates) == 1:
        return int(first[0])
    return int(candidates[(weights[candidates] / _exponential_of_bits(bits[candidates])).argmax()])


def token_at(weights: Array, share: float) -> int:
    if len(weights) < BLOCK:
        total = np.add.reduce(weights, dtype=np.float64)
        return _first_beyond(weights.cumsum(dtype=np.float64), share * total) if total else -1
    # The block first, then the token in it: a running sum is a chain of dependent additions, and blocks shorten it.
    whole = len(weights) - len(weights) % BLOCK
    running = np.zeros(whole // BLOCK + 1)
    (weights[:whole].reshape(-1, BLOCK) @ _ones(BLOCK)).cumsum(out=running[:-1])
    running[-1] = running.item(-2)
    if whole < len(weights):
        running[-1] += weights[whole:].sum(dtype=np.float64)
    total = running.item(-1)
    if not total:
        return -1
    sought = share * total
    block = _first_beyond(running, sought)
    before = running.item(block - 1) if block else 0.0
    within = weights[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
    return block * BLOCK + _first_beyond(within, sought - before)


def top(x: Array, count: int) -> tuple[HostFloats, HostInts]:
    return leading(x, _maxima(x), min(count, x.shape[-1]), _look)


def top_of_logits(logits: Array, count: int) -> tuple[HostInts, HostFloats32]:
    rows, width = logits.shape
    maxima, totals = np.empty((rows, Lines(width).columns), dtype=np.float32), np.empty(rows)
    for piece in pieces(rows, width):
        part = float32(logits[piece])
        maxima[piece] = _maxima(part)
        totals[piece] = _quick_sums(_exponentials(part, maxima[piece].max(axis=-1, keepdims=True)))
    values, tokens = leading(logits, maxima, min(count, width), _look)
    return tokens, probabilities_of(values, totals)


def _look(x: Array, rows: HostInts, places: HostInts) -> Array:
    return x[rows, places]


def _maxima(x: Array) -> Array:
    """[rows, columns]: the largest of each column below the Lines of a row."""
    lines = Lines(x.shape[-1])
    maxima = x[:, : lines.whole].reshape(len(x), lines.full, lines.columns).max(axis=1)
    rest = x[:, lines.whole :]
    beginning = maxima[:, : rest.shape[-1]]
    np.maximum(beginning, rest, out=beginning)
    return maxima


def _quick_sums(x: Array) -> HostFloats:
    """[rows]: down the columns in float32, then in float64: right to 1e-6, and several times faster."""
    lines = Lines(x.shape[-1])
    columns = x[:, : lines.whole].reshape(len(x), lines.full, lines.columns).sum(axis=1)
    return sums(columns) + sums(x[:, lines.whole :])


def race_order(weights: Array, exponential: Array, count: int) -> list[int]:
    return [int(token) for token in np.argsort(-(weights / exponential), kind="stable")[:count]]


def _folded(x: HostBits) -> HostBits:
    """x ^ (x >> 16)."""
    return x ^ (x >> BY_16)


@lru_cache(maxsize=4)
def _all_folded(vocab_size: int) -> HostBits:
    return _folded(np.arange(vocab_size, dtype=np.uint32))


@lru_cache(maxsize=1)
def _ones(count: int) -> Array:
    return np.ones(count, dtype=np.float32)


def _first_beyond(running: HostFloats, sought: float) -> int:
    """The first place at which a running sum exceeds a number.

    Where rounding made the number as large as the whole, it is the last place that adds anything.
    """
    place = int(running.searchsorted(sought, side="right"))
    return place if place < len(running) else int(running.searchsorted(running[-1]))
