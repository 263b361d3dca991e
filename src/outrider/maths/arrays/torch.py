"""PyTorch, on whatever device the arrays live on. Imported once the process has imported PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from outrider.maths.arrays import numpy as in_numpy
from outrider.maths.arrays.base import (
    BELOW_ONE,
    MIX_1,
    MIX_2,
    TO_UNIT,
    Array,
    HostFloats,
    HostFloats32,
    HostInts,
    HostTruths,
)
from outrider.maths.arrays.selection import Lines, leading, pieces, probabilities_of

name = "torch"


def owns(x: object) -> bool:
    return isinstance(x, torch.Tensor)


def float32(x: Array, like: Array | None = None) -> Array:
    if not owns(x):
        x = torch.from_numpy(np.array(x, dtype=np.float32))
    if like is None and x.dtype is torch.float32 and not x.requires_grad:
        return x
    device = x.device if like is None else like.device
    return x.detach().to(device=device, dtype=torch.float32)


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    if x.dtype is torch.float32 and x.device.type == "cpu" and not x.requires_grad:
        return np.asarray(x.numpy())  # each of the steps below takes a microsecond, and a round takes many
    x = x.detach()
    if x.dtype == torch.bfloat16:
        x = x.float()
    return np.asarray(x.cpu().numpy())


def on_host(x: Array) -> bool:
    return bool(x.device.type == "cpu")


def softmax(x: Array) -> Array:
    return torch.softmax(x, dim=-1)


def log_sum_exp(x: Array) -> HostFloats:
    return _floats(torch.logsumexp(x, dim=-1))


def largest(x: Array) -> tuple[HostFloats, HostInts]:
    if x.device.type == "cpu":
        return in_numpy.largest(x.detach().float().numpy())  # where it is float32, the same memory; many times faster
    return _read_together(*x.max(dim=-1))


def gather(x: Array, rows: Sequence[int], tokens: Sequence[int]) -> HostFloats:
    return _floats(x[list(rows), list(tokens)])


def sums(x: Array) -> HostFloats:
    return _floats(x.sum(dim=-1))


def positive_difference(x: Array, y: Array) -> Array:
    return (x - y).clamp_(min=0)


def divide(x: Array, divisor: HostFloats) -> Array:
    return x / _column(divisor, x)


def multiply(x: Array, factor: HostFloats) -> Array:
    return x * _column(factor, x)


def without(x: Array, tokens: Sequence[int]) -> Array:
    copy = x.clone()
    copy[list(tokens)] = 0
    return copy


def replace(x: Array, rows: Sequence[int], tokens: Sequence[int], values: HostFloats) -> Array:
    copy = x.clone()
    copy[list(rows), list(tokens)] = torch.as_tensor(values, dtype=x.dtype, device=x.device)
    return copy


def columns(x: Array, tokens: HostInts, otherwise: float) -> Array:
    index = torch.from_numpy(tokens).to(x.device)
    return x[:, index.clamp(min=0)].masked_fill_(index < 0, otherwise)


def keep_where(x: Array, kept: HostTruths, otherwise: float) -> Array:
    return x.masked_fill(torch.from_numpy(~kept).to(x.device), otherwise)


def keep_where_at_least(x: Array, threshold: Array, otherwise: float) -> Array:
    return x.masked_fill(x < threshold, otherwise)


def kth_largest(x: Array, k: int) -> Array:
    return torch.topk(x, k, dim=-1).values[:, -1:]


def nucleus_threshold(probabilities: Array, mass: float) -> Array:
    # Sorting the whole vocabulary costs more than the rest of the round; the nucleus is nearly always short.
    for count in (256, 4096):
        if count < probabilities.shape[-1]:
            descending = torch.topk(probabilities, count, dim=-1).values
            total = descending.sum(dim=-1, dtype=_exact(descending))
            if bool((total >= mass).all()):
                return _nucleus_threshold(descending, mass)
    return _nucleus_threshold(probabilities.sort(dim=-1, descending=True).values, mass)


def _nucleus_threshold(descending: Array, mass: float) -> Array:
    before = descending.cumsum(dim=-1, dtype=_exact(descending)) - descending
    last = ((before < mass).sum(dim=-1, keepdim=True) - 1).clamp_(min=0)
    return descending.gather(-1, last)


def concatenate(pieces: Sequence[Array]) -> Array:
    return torch.cat(list(pieces))


def stack(rows: Sequence[Array]) -> Array:
    return torch.stack(list(rows))


def exponential(keys: Sequence[tuple[int, int]], vocab_size: int, like: Array) -> Array:
    key = torch.from_numpy(np.asarray(keys, dtype=np.uint32).view(np.int32)).to(like.device)
    return exponential_of(key, vocab_size)


def exponential_of(key: Array, vocab_size: int) -> Array:
    """The same for keys on the device, int32 [keys, 2]: the bits of the unsigned words."""
    # int32 multiplication wraps around as uint32 does; only the shifts need the sign bit masked away.
    bits = torch.arange(vocab_size, dtype=torch.int32, device=key.device)[None, :]
    for part in (0, 1):
        bits = bits ^ key[:, part, None]
        bits ^= (bits >> 16) & 0xFFFF
        bits *= _signed(MIX_1)
        bits ^= (bits >> 13) & 0x7FFFF
        bits *= _signed(MIX_2)
        bits ^= (bits >> 16) & 0xFFFF
    unit = bits.to(torch.float32)
    unit += (bits < 0).to(torch.float32) * 2.0**32
    unit = unit.add_(0.5).mul_(TO_UNIT).clamp_(max=BELOW_ONE)
    return unit.neg_().log1p_().neg_()


def race(weights: Array, exponential: Array) -> HostInts:
    finished = weights / exponential
    if finished.device.type == "cpu":
        return np.asarray(finished.numpy().argmax(axis=-1))
    return np.asarray(finished.argmax(dim=-1).cpu().numpy())


def keyed_race(weights: Array, keys: Sequence[tuple[int, int]]) -> HostInts:
    if on_host(weights):
        return in_numpy.keyed_race(to_numpy(weights), keys)
    return race(weights, exponential(keys, weights.shape[-1], weights))


def token_at(weights: Array, share: float) -> int:
    if weights.device.type in ("cpu", "mps"):  # Apple's GPUs have no float64
        return in_numpy.token_at(to_numpy(weights), share)
    running = torch.cumsum(weights, 0, dtype=torch.float64)
    token = torch.searchsorted(running, share * running[-1:], right=True)
    token = torch.minimum(token, torch.searchsorted(running, running[-1:]))
    return int(torch.where(running[-1:] > 0, token, -1))


def top(x: Array, count: int) -> tuple[HostFloats, HostInts]:
    if on_host(x):
        return in_numpy.top(x.detach().float().numpy(), count)  # five times faster than torch.topk
    return _read_together(*torch.topk(x, min(count, x.shape[-1]), dim=-1))


def top_of_logits(logits: Array, count: int) -> tuple[HostInts, HostFloats32]:
    logits, count = logits.detach(), min(count, logits.shape[-1])
    if on_host(logits):
        return _top_on_host(logits, count)
    logits = logits.float()  # in bfloat16 the sum of exponentials would be off by per cents
    values, tokens = torch.topk(logits, count, dim=-1)
    logs, ids = _read_together(values - torch.logsumexp(logits, dim=-1, keepdim=True), tokens)
    return ids, np.exp(logs).astype(np.float32)


def _top_on_host(logits: Array, count: int) -> tuple[HostInts, HostFloats32]:
    rows, width = logits.shape
    lines = Lines(width)
    maxima, totals = torch.empty(rows, lines.columns), torch.empty(rows)
    memory = torch.empty(0)
    for piece in pieces(rows, width):
        part, best, total = logits[piece], maxima[piece], totals[piece]
        if not len(memory):
            memory = torch.empty(part.shape)  # the same for all pieces, because it is in the cache
        copy = memory[: len(part)].copy_(part)
        torch.amax(copy[:, : lines.whole].view(len(part), lines.full, lines.columns), dim=1, out=best)
        if lines.whole < width:
            best[:, : width - lines.whole].clamp_(min=copy[:, lines.whole :])
        torch.sum(copy.sub_(best.amax(dim=-1, keepdim=True)).exp_(), dim=-1, out=total)
    values, tokens = leading(logits, maxima.numpy(), count, _look)
    return tokens, probabilities_of(values, totals.numpy())


def _look(x: Array, rows: HostInts, places: HostInts) -> np.ndarray[Any, Any]:
    return to_numpy(x[torch.from_numpy(rows), torch.from_numpy(places)])


def race_order(weights: Array, exponential: Array, count: int) -> list[int]:
    return [int(token) for token in torch.topk(weights / exponential, count).indices.tolist()]


def _exact(like: Array) -> Any:
    """The widest float of the device: Apple's GPUs have no float64."""
    return torch.float32 if like.device.type == "mps" else torch.float64


def _column(numbers: HostFloats, like: Array) -> Array:
    return torch.as_tensor(np.asarray(numbers), dtype=torch.float32, device=like.device)[..., None]


def _floats(x: Array) -> HostFloats:
    return np.asarray(x.detach().cpu().to(torch.float64).numpy())


def _read_together(values: Array, tokens: Array) -> tuple[HostFloats, HostInts]:
    """Numbers and ids of one shape, in one read from the device. Ids below 2**24 are exact in float32."""
    both = torch.stack([values.detach().float(), tokens.float()]).cpu().numpy()
    return np.asarray(both[0], dtype=np.float64), both[1].astype(np.int64)


def _signed(number: int) -> int:
    """The 32 bits of an unsigned number read as a signed one."""
    return number - 2**32 if number >= 2**31 else number
