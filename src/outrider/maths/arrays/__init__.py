"""One small namespace over NumPy, PyTorch and MLX arrays: the operations that the mathematics needs, no more.

Each function here asks the library that owns its first array (`operations` says which). Distributions are float32
arrays whose last axis is the vocabulary. What is small enough to be looked at (token ids, single probabilities) crosses
to the host as NumPy. Nothing here imports torch or mlx before the process has done so.

`x` is [rows, vocab] unless said otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from outrider.errors import InputError
from outrider.maths.arrays import numpy as in_numpy
from outrider.maths.arrays.base import Array, HostBits, HostFloats, HostFloats32, HostInts, HostTruths, Operations

__all__ = [
    "Array",
    "HostBits",
    "HostFloats",
    "HostFloats32",
    "HostInts",
    "HostTruths",
    "Operations",
    "columns",
    "concatenate",
    "divide",
    "float32",
    "float32_on_host",
    "gather",
    "keep_where",
    "keep_where_at_least",
    "keyed_race",
    "kth_largest",
    "largest",
    "log_sum_exp",
    "multiply",
    "nucleus_threshold",
    "on_host",
    "operations",
    "positive_difference",
    "race",
    "race_order",
    "replace",
    "softmax",
    "stack",
    "sums",
    "to_numpy",
    "token_at",
    "top",
    "top_of_logits",
    "without",
]

_OWNERS: dict[type, Operations] = {np.ndarray: in_numpy}


def operations(x: object) -> Operations:
    """The library that owns array `x`, for several operations in a row.

    Raises:
        InputError: `x` is not an array of NumPy, PyTorch or MLX.
    """
    owner = _OWNERS.get(type(x))
    return _owner_of(x) if owner is None else owner


def _owner_of(x: object) -> Operations:
    """The same for a type that is met for the first time."""
    for library in _loaded():
        if library.owns(x):
            _OWNERS[type(x)] = library
            return library
    raise InputError(
        f"cannot compute with a {type(x).__name__}: give a numpy.ndarray, a torch.Tensor or an mlx.core.array"
    )


def _loaded() -> Iterator[Operations]:
    """The libraries that this process has imported: there are no arrays of the others."""
    yield in_numpy
    if "torch" in sys.modules:
        from outrider.maths.arrays import torch

        yield torch
    if "mlx.core" in sys.modules:
        from outrider.maths.arrays import mlx

        yield mlx


# Between libraries


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """Any array, or nested list of numbers, as a NumPy array on the host."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, list | tuple | int | float | np.generic):
        return np.asarray(x)
    return operations(x).to_numpy(x)


def float32(x: Array, like: Array | None = None) -> Array:
    """`x` in float32; with `like`, an array of any library, in its library and on its device."""
    if like is None:
        return operations(x).float32(x)
    ops = operations(like)
    return ops.float32(x if ops.owns(x) else to_numpy(x), like)


def float32_on_host(x: Array) -> HostFloats32:
    """`x` as a float32 NumPy array: a view of the same memory where that is possible."""
    return to_numpy(x).astype(np.float32, copy=False)


def on_host(x: Array) -> bool:
    """Whether the CPU computes with `x` at once: then leaving out a row saves its time."""
    return operations(x).on_host(x)


# Row by row


def softmax(x: Array) -> Array:
    """The softmax of each row; all NaN where a row holds a NaN or has no finite largest value."""
    return operations(x).softmax(x)


def log_sum_exp(x: Array) -> HostFloats:
    """[rows]: the logarithm of the sum of exponentials."""
    return operations(x).log_sum_exp(x)


def largest(x: Array) -> tuple[HostFloats, HostInts]:
    """Each row's largest value (NaN if the row has one) and the first index that holds it."""
    return operations(x).largest(x)


def sums(x: Array) -> HostFloats:
    """[rows]; of [vocab] a single number."""
    return operations(x).sums(x)


def top(x: Array, count: int) -> tuple[HostFloats, HostInts]:
    """The largest values of each row, falling, and their indices: both [rows, min(count, vocab)].

    On a CPU the first index comes first of equal values; on an accelerator any may, or be left out.
    """
    return operations(x).top(x, count)


def top_of_logits(logits: Array, count: int) -> tuple[HostInts, HostFloats32]:
    """The most probable tokens of each row of raw logits, falling, and their softmax probabilities.

    On a CPU the first id comes first of tokens that are equally probable; on an accelerator any may, or be left out.
    A row that holds a NaN, or no finite largest value, has NaN for probabilities.

    Args:
        logits: [rows, vocab], in any precision.
        count: how many tokens of each row, at least 1.

    Returns:
        (tokens, probabilities), both [rows, min(count, vocab)], on the host.
    """
    return operations(logits).top_of_logits(logits, count)


def kth_largest(x: Array, k: int) -> Array:
    """[rows, 1]: the k-th largest value of each row, counting from 1."""
    return operations(x).kth_largest(x, k)


def nucleus_threshold(probabilities: Array, mass: float) -> Array:
    """[rows, 1]: the smallest probability in the shortest most-probable prefix that holds `mass`."""
    return operations(probabilities).nucleus_threshold(probabilities, mass)


# Element by element


def positive_difference(x: Array, y: Array) -> Array:
    """max(x - y, 0)."""
    return operations(x).positive_difference(x, y)


def divide(x: Array, divisor: HostFloats) -> Array:
    """Each row of `x` divided by its own number, in float32."""
    return operations(x).divide(x, divisor)


def multiply(x: Array, factor: HostFloats) -> Array:
    """Each row of `x` times its own number, in float32."""
    return operations(x).multiply(x, factor)


def keep_where(x: Array, kept: HostTruths, otherwise: float) -> Array:
    """`x` ([vocab]) where `kept` ([vocab]) is true, `otherwise` elsewhere."""
    return operations(x).keep_where(x, kept, otherwise)


def keep_where_at_least(x: Array, threshold: Array, otherwise: float) -> Array:
    """`x` where x >= threshold ([rows, 1]), `otherwise` elsewhere."""
    return operations(x).keep_where_at_least(x, threshold, otherwise)


# By index


def gather(x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
    """The values x[rows[i], tokens[i]]."""
    return operations(x).gather(x, rows, tokens)


def replace(x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
    """A copy of `x` with x[rows[i], tokens[i]] = values[i]."""
    return operations(x).replace(x, rows, tokens, values)


def without(x: Array, tokens: Sequence[int]) -> Array:
    """A copy of `x` ([vocab]) with zeros at `tokens`."""
    return operations(x).without(x, tokens)


def columns(x: Array, tokens: HostInts, otherwise: float) -> Array:
    """[rows, tokens]: column i is that of tokens[i] in `x`, or `otherwise` where tokens[i] is negative."""
    return operations(x).columns(x, tokens, otherwise)


def concatenate(pieces: Sequence[Array]) -> Array:
    """A new array of the rows of all of these, one after the other; there is at least one piece."""
    return operations(pieces[0]).concatenate(pieces)


def stack(rows: Sequence[Array]) -> Array:
    """Arrays of one shape as the rows of one array; there is at least one."""
    return operations(rows[0]).stack(rows)


# Draws: noise.py makes keys, and of them the exponential noise


def race(weights: Array, exponential: Array) -> HostInts:
    """argmax over tokens of weight / exponential, per row: a draw from the normalised weights (Gumbel-max)."""
    return operations(weights).race(weights, exponential)


def keyed_race(weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
    """The race of each row against the noise of its key."""
    return operations(weights).keyed_race(weights, keys)


def race_order(weights: Array, exponential: Array, count: int) -> list[int]:
    """The first `count` tokens ([vocab] in) of the race: draws without replacement, in order."""
    return operations(weights).race_order(weights, exponential, count)


def token_at(weights: Array, share: float) -> int:
    """The token of `weights` ([vocab]) at which their running sum first exceeds `share` (in [0, 1)) of the whole.

    -1 where all weights are 0.

    Sums are float64, on any device: 50,000 float32 sums would be off by more than rare tokens weigh.
    """
    return operations(weights).token_at(weights, share)
