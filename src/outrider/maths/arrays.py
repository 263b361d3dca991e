"""One small namespace over NumPy, PyTorch and MLX arrays: the operations that the mathematics needs, no more.

`operations(array)` returns the namespace that owns the array. All distributions are float32 arrays whose last
axis is the vocabulary; everything small enough to be looked at (token ids, gathered probabilities) crosses to
the host as NumPy. Nothing here imports torch or mlx unless an array of theirs already exists.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from outrider.errors import InputError

Array = Any  # numpy.ndarray | torch.Tensor | mlx.core.array
HostInts = np.ndarray[Any, np.dtype[np.int64]]
HostBits = np.ndarray[Any, np.dtype[np.uint32]]
HostFloats = np.ndarray[Any, np.dtype[np.float64]]


class Operations(Protocol):
    """What the mathematics asks of an array library. `x` is [rows, vocab] unless said otherwise."""

    name: str

    def owns(self, x: object) -> bool: ...

    def float32(self, x: Array, like: Array | None = None) -> Array:
        """`x` (of any library) as a float32 array of this one, on the device of `like` if given."""

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]: ...

    def on_host(self, x: Array) -> bool:
        """Whether the processor itself computes with `x`: then a row that is left alone saves its time."""

    def softmax(self, x: Array) -> Array:
        """Each row's; all NaN where a row holds a NaN or has no finite largest value."""

    def log_sum_exp(self, x: Array) -> HostFloats: ...

    def largest(self, x: Array) -> tuple[HostFloats, HostInts]:
        """Each row's largest value (NaN if the row has one) and the first index that holds it."""

    def gather(self, x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
        """The values x[rows[i], tokens[i]], on the host."""

    def sums(self, x: Array) -> HostFloats: ...

    def positive_difference(self, x: Array, y: Array) -> Array:
        """max(x - y, 0), elementwise."""

    def divide(self, x: Array, divisor: HostFloats) -> Array:
        """Each row of `x` divided by its own number, in float32."""

    def multiply(self, x: Array, factor: HostFloats) -> Array:
        """Each row of `x` times its own number, in float32."""

    def without(self, x: Array, tokens: Sequence[int]) -> Array:
        """A copy of `x` ([vocab]) with zeros at `tokens`."""

    def replace(self, x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
        """A copy of `x` with x[rows[i], tokens[i]] = values[i]."""

    def columns(self, x: Array, tokens: HostInts, otherwise: float) -> Array:
        """[rows, tokens]: column tokens[i] of `x` in place i, `otherwise` where tokens[i] is negative."""

    def keep_where_at_least(self, x: Array, threshold: Array, otherwise: float) -> Array:
        """`x` where x >= threshold ([rows, 1]), `otherwise` elsewhere."""

    def kth_largest(self, x: Array, k: int) -> Array:
        """[rows, 1]: the k-th largest value of each row, counting from 1."""

    def nucleus_threshold(self, probabilities: Array, mass: float) -> Array:
        """[rows, 1]: the smallest probability in the shortest most-probable prefix that holds `mass`."""

    def stack(self, rows: Sequence[Array]) -> Array: ...

    def exponential(self, keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
        """[keys, vocab]: standard exponential noise, a pure function of (key, token); see noise.py."""

    def race(self, weights: Array, exponential: Array) -> HostInts:
        """argmax over tokens of weight / exponential, per row: a draw from the normalised weights."""

    def keyed_race(self, weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
        """race(weights, exponential(keys, ...))."""

    def token_at(self, weights: Array, share: float) -> int:
        """The token of `weights` ([vocab]) at which their running sum first exceeds `share` (in [0, 1)) of the whole.

        -1 where all weights are 0.

        Sums are float64, wherever the weights live: 50,000 float32 sums would be off by more than rare tokens weigh.
        """

    def top(self, x: Array, count: int) -> tuple[HostFloats, HostInts]:
        """[rows, count]: the largest values of each row, falling, and where they stand."""

    def race_order(self, weights: Array, exponential: Array, count: int) -> list[int]:
        """The first `count` tokens ([vocab] in) of the race: draws without replacement, in order."""


# The integer mixer of MurmurHash3 (fmix32), applied twice with two keys: the second round makes the noise of two
# positions independent even where their first keys differ by a small number.
MIX_1 = 0x85EBCA6B
MIX_2 = 0xC2B2AE35
TO_UNIT = 2.0**-32
BLOCK = 256
RACE_MARGIN = 1e-5  # far more than float32 rounds


class NumpyOperations:
    """The reference: every other namespace must agree with it up to rounding."""

    name = "numpy"

    def owns(self, x: object) -> bool:
        return isinstance(x, np.ndarray)

    def float32(self, x: Array, like: Array | None = None) -> Array:
        if not isinstance(x, np.ndarray):
            x = to_numpy(x)
        return x.astype(np.float32, copy=False)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        return np.asarray(x)

    def on_host(self, x: Array) -> bool:
        return True

    def softmax(self, x: Array) -> Array:
        with np.errstate(invalid="ignore"):  # infinities become NaN, which is what is asked for
            exponentials = x - x.max(axis=-1, keepdims=True)
        np.exp(exponentials, out=exponentials)
        exponentials *= np.reciprocal(exponentials.sum(axis=-1, keepdims=True))  # quicker than to divide each of them
        return exponentials

    def log_sum_exp(self, x: Array) -> HostFloats:
        top = x.max(axis=-1)
        return np.asarray(np.log(np.exp(x - top[:, None]).sum(axis=-1, dtype=np.float64)) + top)

    def largest(self, x: Array) -> tuple[HostFloats, HostInts]:
        index = x.argmax(axis=-1)  # NumPy's argmax returns the first NaN if there is one
        values = [x.item(row, place) for row, place in enumerate(index.tolist())]
        return np.array(values, dtype=np.float64), index.astype(np.int64, copy=False)

    def gather(self, x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
        return np.asarray(x[rows, tokens], dtype=np.float64)

    def sums(self, x: Array) -> HostFloats:
        return np.asarray(x.sum(axis=-1, dtype=np.float64))

    def positive_difference(self, x: Array, y: Array) -> Array:
        return np.maximum(x - y, np.float32(0))

    def divide(self, x: Array, divisor: HostFloats) -> Array:
        return x / np.asarray(divisor, dtype=np.float32)[..., None]

    def multiply(self, x: Array, factor: HostFloats) -> Array:
        return x * np.asarray(factor, dtype=np.float32)[..., None]

    def without(self, x: Array, tokens: Sequence[int]) -> Array:
        copy = x.copy()
        copy[list(tokens)] = 0
        return copy

    def replace(self, x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
        copy = x.copy()
        copy[rows, tokens] = values
        return copy

    def columns(self, x: Array, tokens: HostInts, otherwise: float) -> Array:
        return np.where(tokens < 0, np.float32(otherwise), x[:, tokens])

    def keep_where_at_least(self, x: Array, threshold: Array, otherwise: float) -> Array:
        return np.where(x >= threshold, x, np.float32(otherwise))

    def kth_largest(self, x: Array, k: int) -> Array:
        return np.partition(x, -k, axis=-1)[:, -k, None]

    def nucleus_threshold(self, probabilities: Array, mass: float) -> Array:
        descending = -np.sort(-probabilities, axis=-1)
        before = np.cumsum(descending, axis=-1, dtype=np.float64) - descending
        last = np.maximum((before < mass).sum(axis=-1) - 1, 0)
        return np.take_along_axis(descending, last[:, None], axis=-1)

    def stack(self, rows: Sequence[Array]) -> Array:
        return np.stack(rows)

    def exponential(self, keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
        return self.exponential_of_tokens(keys, np.arange(vocab_size))

    def exponential_of_tokens(self, keys: Sequence[tuple[int, int]], tokens: HostInts) -> Array:
        """[keys, tokens]: the noise of some tokens only."""
        return self._exponential_of_bits(self._bits(keys, _folded(tokens.astype(np.uint32))))

    def _exponential_of_bits(self, bits: HostBits) -> Array:
        unit = (bits.astype(np.float32) + np.float32(0.5)) * np.float32(TO_UNIT)
        return -np.log1p(-np.minimum(unit, np.float32(1 - 2**-24)))

    def _bits(self, keys: Sequence[tuple[int, int]], folded_tokens: HostBits) -> HostBits:
        """[keys, tokens]: the hash that the noise is made of.

        A second folding undoes the first, and both sides of an exclusive or may be folded by themselves: what ends the
        first round of the mixer, the key, and what begins the second are one exclusive or with the folded key.
        """
        key = _folded(np.asarray(keys, dtype=np.uint32))  # [keys, 2]
        bits = folded_tokens ^ key[:, 0, None]
        bits *= np.uint32(MIX_1)
        bits ^= bits >> np.uint32(13)
        bits *= np.uint32(MIX_2)
        bits ^= key[:, 1, None]
        bits *= np.uint32(MIX_1)
        bits ^= bits >> np.uint32(13)
        bits *= np.uint32(MIX_2)
        return _folded(bits)

    def race(self, weights: Array, exponential: Array) -> HostInts:
        return np.asarray((weights / exponential).argmax(axis=-1), dtype=np.int64)

    def keyed_race(self, weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
        return np.array([self._winner(row, key) for row, key in zip(weights, keys, strict=True)], dtype=np.int64)

    def _winner(self, weights: Array, key: tuple[int, int]) -> int:
        # -log(1 - u) is at least u. So weight / u is a bound that takes no logarithm, and where it stays behind the one
        # token that is worked out, nobody can win.
        bits = self._bits([key], _all_folded(len(weights)))[0]
        bounds = bits.astype(np.float32)
        bounds += np.float32(0.5)
        np.divide(weights, bounds, out=bounds)  # weight / u x 2^-32
        first = bounds.argmax(keepdims=True)
        reached = float((weights[first] / self._exponential_of_bits(bits[first]))[0])
        candidates = np.flatnonzero(bounds >= reached * TO_UNIT * (1 - RACE_MARGIN))
        return int(candidates[(weights[candidates] / self._exponential_of_bits(bits[candidates])).argmax()])

    def token_at(self, weights: Array, share: float) -> int:
        # The block first, then the token in it: adding up is a chain of waiting, which blocks cut short.
        whole = len(weights) - len(weights) % BLOCK
        sums = np.zeros(whole // BLOCK + 1)
        (weights[:whole].reshape(-1, BLOCK) @ _ones(BLOCK)).cumsum(out=sums[:-1])
        sums[-1] = sums.item(-2) if whole else 0.0
        if whole < len(weights):
            sums[-1] += weights[whole:].sum(dtype=np.float64)
        total = sums.item(-1)
        if not total:
            return -1
        sought = share * total
        block = _first_beyond(sums, sought)
        before = sums.item(block - 1) if block else 0.0
        within = weights[block * BLOCK : (block + 1) * BLOCK].cumsum(dtype=np.float64)
        return block * BLOCK + _first_beyond(within, sought - before)

    def top(self, x: Array, count: int) -> tuple[HostFloats, HostInts]:
        count = min(count, x.shape[-1])
        largest = np.argpartition(-x, count - 1, axis=-1)[:, :count]
        values = np.take_along_axis(x, largest, axis=-1)
        order = np.lexsort((largest, -values), axis=-1)  # of equal values the first
        tokens = np.take_along_axis(largest, order, axis=-1)
        return np.take_along_axis(values, order, axis=-1).astype(np.float64), tokens.astype(np.int64, copy=False)

    def race_order(self, weights: Array, exponential: Array, count: int) -> list[int]:
        return [int(token) for token in np.argsort(-(weights / exponential), kind="stable")[:count]]


class TorchOperations:
    """PyTorch, on whatever device the arrays live on."""

    name = "torch"

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def owns(self, x: object) -> bool:
        return isinstance(x, self.torch.Tensor)

    def float32(self, x: Array, like: Array | None = None) -> Array:
        if not self.owns(x):
            x = self.torch.from_numpy(np.array(to_numpy(x), dtype=np.float32))
        if like is None and x.dtype is self.torch.float32 and not x.requires_grad:
            return x
        device = x.device if like is None else like.device
        return x.detach().to(device=device, dtype=self.torch.float32)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        if x.dtype is self.torch.float32 and x.device.type == "cpu" and not x.requires_grad:
            return np.asarray(x.numpy())  # each of the steps below takes a microsecond, and a round takes many
        x = x.detach()
        if x.dtype == self.torch.bfloat16:
            x = x.float()
        return np.asarray(x.cpu().numpy())

    def on_host(self, x: Array) -> bool:
        return bool(x.device.type == "cpu")

    def softmax(self, x: Array) -> Array:
        return self.torch.softmax(x, dim=-1)

    def log_sum_exp(self, x: Array) -> HostFloats:
        return self._floats(self.torch.logsumexp(x, dim=-1))

    def largest(self, x: Array) -> tuple[HostFloats, HostInts]:
        if x.device.type == "cpu":
            return NUMPY.largest(x.detach().float().numpy())  # where it is float32, the same memory; many times faster
        values, index = x.max(dim=-1)
        return self._floats(values), index.cpu().numpy()

    def gather(self, x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
        return self._floats(x[list(rows), list(tokens)])

    def sums(self, x: Array) -> HostFloats:
        return self._floats(x.sum(dim=-1))

    def positive_difference(self, x: Array, y: Array) -> Array:
        return (x - y).clamp_(min=0)

    def divide(self, x: Array, divisor: HostFloats) -> Array:
        return x / self._column(divisor, x)

    def multiply(self, x: Array, factor: HostFloats) -> Array:
        return x * self._column(factor, x)

    def without(self, x: Array, tokens: Sequence[int]) -> Array:
        copy = x.clone()
        copy[list(tokens)] = 0
        return copy

    def replace(self, x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
        copy = x.clone()
        copy[list(rows), list(tokens)] = self.torch.as_tensor(values, dtype=x.dtype, device=x.device)
        return copy

    def columns(self, x: Array, tokens: HostInts, otherwise: float) -> Array:
        index = self.torch.from_numpy(tokens).to(x.device)
        return x[:, index.clamp(min=0)].masked_fill_(index < 0, otherwise)

    def keep_where_at_least(self, x: Array, threshold: Array, otherwise: float) -> Array:
        return x.masked_fill(x < threshold, otherwise)

    def kth_largest(self, x: Array, k: int) -> Array:
        return self.torch.topk(x, k, dim=-1).values[:, -1:]

    def nucleus_threshold(self, probabilities: Array, mass: float) -> Array:
        # Sorting the whole vocabulary costs more than the rest of the round; the nucleus is nearly always short.
        for count in (256, 4096):
            if count < probabilities.shape[-1]:
                descending = self.torch.topk(probabilities, count, dim=-1).values
                total = descending.sum(dim=-1, dtype=self._exact(descending))
                if bool((total >= mass).all()):
                    return self._nucleus_threshold(descending, mass)
        return self._nucleus_threshold(probabilities.sort(dim=-1, descending=True).values, mass)

    def _nucleus_threshold(self, descending: Array, mass: float) -> Array:
        before = descending.cumsum(dim=-1, dtype=self._exact(descending)) - descending
        last = ((before < mass).sum(dim=-1, keepdim=True) - 1).clamp_(min=0)
        return descending.gather(-1, last)

    def stack(self, rows: Sequence[Array]) -> Array:
        return self.torch.stack(list(rows))

    def exponential(self, keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
        # int32 multiplication wraps around as uint32 does; only the shifts need the sign bit masked away.
        torch = self.torch
        key = torch.from_numpy(np.asarray(keys, dtype=np.uint32).view(np.int32)).to(like.device)  # [keys, 2]
        bits = torch.arange(vocab_size, dtype=torch.int32, device=like.device)[None, :]
        for part in (0, 1):
            bits = bits ^ key[:, part, None]
            bits ^= (bits >> 16) & 0xFFFF
            bits *= _signed(MIX_1)
            bits ^= (bits >> 13) & 0x7FFFF
            bits *= _signed(MIX_2)
            bits ^= (bits >> 16) & 0xFFFF
        unit = bits.to(torch.float32)
        unit += (bits < 0).to(torch.float32) * 2.0**32
        unit = unit.add_(0.5).mul_(TO_UNIT).clamp_(max=1 - 2**-24)
        return unit.neg_().log1p_().neg_()

    def race(self, weights: Array, exponential: Array) -> HostInts:
        finished = weights / exponential
        if finished.device.type == "cpu":
            return np.asarray(finished.numpy().argmax(axis=-1))
        return np.asarray(finished.argmax(dim=-1).cpu().numpy())

    def keyed_race(self, weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
        if self.on_host(weights):
            return NUMPY.keyed_race(self.to_numpy(weights), keys)
        return self.race(weights, self.exponential(keys, weights.shape[-1], weights))

    def token_at(self, weights: Array, share: float) -> int:
        torch = self.torch
        if weights.device.type in ("cpu", "mps"):  # Apple's GPUs have no float64
            return NUMPY.token_at(self.to_numpy(weights), share)
        sums = torch.cumsum(weights, 0, dtype=torch.float64)
        token = torch.searchsorted(sums, share * sums[-1:], right=True)
        token = torch.minimum(token, torch.searchsorted(sums, sums[-1:]))
        return int(torch.where(sums[-1:] > 0, token, -1))

    def top(self, x: Array, count: int) -> tuple[HostFloats, HostInts]:
        values, tokens = self.torch.topk(x, min(count, x.shape[-1]), dim=-1)
        return self._floats(values), tokens.cpu().numpy()

    def race_order(self, weights: Array, exponential: Array, count: int) -> list[int]:
        return [int(token) for token in self.torch.topk(weights / exponential, count).indices.tolist()]

    def _exact(self, like: Array) -> Any:
        """The widest float of the device: Apple's GPUs have no float64."""
        return self.torch.float32 if like.device.type == "mps" else self.torch.float64

    def _column(self, numbers: HostFloats, like: Array) -> Array:
        return self.torch.as_tensor(np.asarray(numbers), dtype=self.torch.float32, device=like.device)[..., None]

    def _floats(self, x: Array) -> HostFloats:
        return np.asarray(x.detach().cpu().to(self.torch.float64).numpy())


class MlxOperations:
    """MLX; lazy, so a value is computed when it crosses to the host."""

    name = "mlx"

    def __init__(self) -> None:
        import mlx.core as mx

        self.mx = mx

    def owns(self, x: object) -> bool:
        return isinstance(x, self.mx.array)

    def float32(self, x: Array, like: Array | None = None) -> Array:
        if not self.owns(x):
            x = self.mx.array(to_numpy(x).astype(np.float32, copy=False))
        return x.astype(self.mx.float32)

    def to_numpy(self, x: Array) -> np.ndarray[Any, Any]:
        if x.dtype == self.mx.bfloat16:
            x = x.astype(self.mx.float32)
        return np.array(x)

    def on_host(self, x: Array) -> bool:
        return False  # a row that nobody looks at is not computed, and one by one they would be many small programs

    def softmax(self, x: Array) -> Array:
        exponentials = self.mx.exp(x - x.max(axis=-1, keepdims=True))
        totals = self._block_sums(self._block_sums(exponentials)).sum(axis=-1, keepdims=True)
        return exponentials / totals

    def log_sum_exp(self, x: Array) -> HostFloats:
        top = x.max(axis=-1, keepdims=True)
        return np.log(self.sums(self.mx.exp(x - top))) + self._floats(top[..., 0])

    def largest(self, x: Array) -> tuple[HostFloats, HostInts]:
        # MLX's max and argmax pass over NaN; a sum does not.
        values = self.mx.where(self.mx.any(self.mx.isnan(x), axis=-1), float("nan"), x.max(axis=-1))
        return self._floats(values), np.array(x.argmax(axis=-1)).astype(np.int64)

    def gather(self, x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
        return self._floats(x[self.mx.array(list(rows)), self.mx.array(list(tokens))])

    def sums(self, x: Array) -> HostFloats:
        return np.asarray(self._floats(self._block_sums(x)).sum(axis=-1))

    def positive_difference(self, x: Array, y: Array) -> Array:
        return self.mx.maximum(x - y, 0)

    def divide(self, x: Array, divisor: HostFloats) -> Array:
        return x / self._column(divisor)

    def multiply(self, x: Array, factor: HostFloats) -> Array:
        return x * self._column(factor)

    def without(self, x: Array, tokens: Sequence[int]) -> Array:
        copy = self.mx.array(x)
        copy[self.mx.array(list(tokens))] = 0
        return copy

    def replace(self, x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
        copy = self.mx.array(x)
        copy[self.mx.array(list(rows)), self.mx.array(list(tokens))] = self.mx.array(values.astype(np.float32))
        return copy

    def columns(self, x: Array, tokens: HostInts, otherwise: float) -> Array:
        index = self.mx.array(tokens)
        return self.mx.where(index < 0, otherwise, x[:, self.mx.maximum(index, 0)])

    def keep_where_at_least(self, x: Array, threshold: Array, otherwise: float) -> Array:
        return self.mx.where(x >= threshold, x, otherwise)

    def kth_largest(self, x: Array, k: int) -> Array:
        return -self.mx.partition(-x, k - 1, axis=-1)[:, k - 1 : k]

    def nucleus_threshold(self, probabilities: Array, mass: float) -> Array:
        mx = self.mx
        descending = -mx.sort(-probabilities, axis=-1)
        rows, vocab_size = descending.shape
        blocks = mx.pad(descending, [(0, 0), (0, -vocab_size % BLOCK)]).reshape(rows, -1, BLOCK)
        before_block = mx.cumsum(blocks.sum(axis=-1, keepdims=True), axis=1, inclusive=False)
        before = (before_block + mx.cumsum(blocks, axis=-1, inclusive=False)).reshape(rows, -1)[:, :vocab_size]
        last = mx.maximum((before < mass).sum(axis=-1, keepdims=True) - 1, 0)
        return mx.take_along_axis(descending, last, axis=-1)

    def stack(self, rows: Sequence[Array]) -> Array:
        return self.mx.stack(list(rows))

    def exponential(self, keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
        mx = self.mx
        key = mx.array(np.asarray(keys, dtype=np.uint32))  # [keys, 2]
        bits = mx.arange(vocab_size, dtype=mx.uint32)[None, :]
        for part in (0, 1):
            bits = bits ^ key[:, part, None]
            bits = (bits ^ (bits >> 16)) * mx.array(MIX_1, dtype=mx.uint32)
            bits = (bits ^ (bits >> 13)) * mx.array(MIX_2, dtype=mx.uint32)
            bits = bits ^ (bits >> 16)
        unit = mx.minimum((bits.astype(mx.float32) + 0.5) * TO_UNIT, 1 - 2**-24)
        return -mx.log1p(-unit)

    def race(self, weights: Array, exponential: Array) -> HostInts:
        return np.array((weights / exponential).argmax(axis=-1)).astype(np.int64)

    def keyed_race(self, weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
        return self.race(weights, self.exponential(keys, weights.shape[-1], weights))

    def token_at(self, weights: Array, share: float) -> int:
        return NUMPY.token_at(np.array(weights), share)

    def top(self, x: Array, count: int) -> tuple[HostFloats, HostInts]:
        tokens = self.mx.argsort(-x, axis=-1)[..., :count]
        return self._floats(self.mx.take_along_axis(x, tokens, axis=-1)), np.array(tokens).astype(np.int64)

    def race_order(self, weights: Array, exponential: Array, count: int) -> list[int]:
        return [int(token) for token in np.array(self.mx.argsort(-(weights / exponential)))[:count]]

    def _block_sums(self, x: Array) -> Array:
        """Sums of neighbours: MLX adds one number after another on a CPU, and 50,000 float32 would be off by 5e-5."""
        whole = x.shape[-1] // BLOCK * BLOCK
        if not whole:
            return x
        sums = x[:, :whole].reshape(x.shape[0], -1, BLOCK).sum(axis=-1)
        return sums if whole == x.shape[-1] else self.mx.concatenate([sums, x[:, whole:]], axis=-1)

    def _column(self, numbers: HostFloats) -> Array:
        return self.mx.array(np.asarray(numbers, dtype=np.float32))[..., None]

    def _floats(self, x: Array) -> HostFloats:
        return np.array(x.astype(self.mx.float32)).astype(np.float64)


def _folded(x: HostBits) -> HostBits:
    """x ^ (x >> 16)."""
    return x ^ (x >> np.uint32(16))


@lru_cache(maxsize=4)
def _all_folded(vocab_size: int) -> HostBits:
    return _folded(np.arange(vocab_size, dtype=np.uint32))


@lru_cache(maxsize=1)
def _ones(count: int) -> Array:
    return np.ones(count, dtype=np.float32)


def _signed(number: int) -> int:
    """The 32 bits of an unsigned number read as a signed one."""
    return number - 2**32 if number >= 2**31 else number


def _first_beyond(sums: HostFloats, sought: float) -> int:
    """The first place at which a running sum exceeds a number.

    Where rounding made the number as large as the whole, it is the last place that adds anything.
    """
    place = int(sums.searchsorted(sought, side="right"))
    return place if place < len(sums) else int(sums.searchsorted(sums[-1]))


NUMPY = NumpyOperations()
_loaded: dict[str, Operations] = {}


def operations(x: object) -> Operations:
    """The namespace that owns array `x`.

    Raises:
        InputError: `x` is not an array of NumPy, PyTorch or MLX.
    """
    if isinstance(x, np.ndarray):
        return NUMPY
    for module, build in (("torch", TorchOperations), ("mlx.core", MlxOperations)):
        if module in sys.modules:
            if module not in _loaded:
                _loaded[module] = build()
            if _loaded[module].owns(x):
                return _loaded[module]
    raise InputError(
        f"cannot compute with a {type(x).__name__}: give a numpy.ndarray, a torch.Tensor or an mlx.core.array"
    )


def to_numpy(x: Any) -> np.ndarray[Any, Any]:
    """Any array, or nested list of numbers, as a NumPy array on the host."""
    if isinstance(x, np.ndarray):
        return x
    if isinstance(x, list | tuple | int | float | np.generic):
        return np.asarray(x)
    return operations(x).to_numpy(x)
