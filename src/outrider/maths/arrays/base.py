"""What an array library has to offer, and what the libraries share: types, and the constants of the noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

Array = Any  # numpy.ndarray | torch.Tensor | mlx.core.array
HostInts = np.ndarray[Any, np.dtype[np.int64]]
HostBits = np.ndarray[Any, np.dtype[np.uint32]]
HostFloats = np.ndarray[Any, np.dtype[np.float64]]
HostFloats32 = np.ndarray[Any, np.dtype[np.float32]]
HostTruths = np.ndarray[Any, np.dtype[np.bool_]]

# The integer mixer of MurmurHash3 (fmix32), applied twice with two keys: the second round makes the noise of two
# positions independent even where their first keys differ by a small number.
MIX_1 = 0x85EBCA6B
MIX_2 = 0xC2B2AE35
TO_UNIT = 2.0**-32
BELOW_ONE = 1 - 2**-24  # the largest such float32: its log1p(-x) is finite
BLOCK = 256  # numbers that are summed in float32 before their sum joins others


class Operations(Protocol):
    """The operations of one library, which is a module of this package.

    The functions of `outrider.maths.arrays` by the same names say what each does. `x` is an array of the library.
    """

    name: str

    def owns(self, x: object) -> bool: ...

    def float32(self, x: Array, like: Array | None = None) -> Array:
        """`x`, of this library or of NumPy, as a float32 array of this one, on the device of `like` if given."""

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]: ...

    def on_host(self, x: Array) -> bool: ...

    def softmax(self, x: Array) -> Array: ...

    def log_sum_exp(self, x: Array) -> HostFloats: ...

    def largest(self, x: Array) -> tuple[HostFloats, HostInts]: ...

    def gather(self, x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats: ...

    def sums(self, x: Array) -> HostFloats: ...

    def positive_difference(self, x: Array, y: Array) -> Array: ...

    def divide(self, x: Array, divisor: HostFloats) -> Array: ...

    def multiply(self, x: Array, factor: HostFloats) -> Array: ...

    def without(self, x: Array, tokens: Sequence[int]) -> Array: ...

    def replace(self, x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array: ...

    def columns(self, x: Array, tokens: HostInts, otherwise: float) -> Array: ...

    def keep_where(self, x: Array, kept: HostTruths, otherwise: float) -> Array: ...

    def keep_where_at_least(self, x: Array, threshold: Array, otherwise: float) -> Array: ...

    def kth_largest(self, x: Array, k: int) -> Array: ...

    def nucleus_threshold(self, probabilities: Array, mass: float) -> Array: ...

    def stack(self, rows: Sequence[Array]) -> Array: ...

    def exponential(self, keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array: ...

    def race(self, weights: Array, exponential: Array) -> HostInts: ...

    def keyed_race(self, weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts: ...

    def race_order(self, weights: Array, exponential: Array, count: int) -> list[int]: ...

    def token_at(self, weights: Array, share: float) -> int: ...

    def top(self, x: Array, count: int) -> tuple[HostFloats, HostInts]: ...

    def top_of_logits(self, logits: Array, count: int) -> tuple[HostInts, HostFloats32]: ...
