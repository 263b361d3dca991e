"""`TreeAttention` as two Triton kernels. Import this module only where Triton is installed.

The keys of a row are split among several programs, because one row of a batch would leave most of the device idle
(flash-decoding, https://crfm.stanford.edu/2023/10/12/flashdecoding.html). Each program goes over its share with a
running maximum (flash attention, arXiv 2205.14135) and writes weighted sums; a second kernel joins the shares. The last
share of a row is that of the tentative tokens, the only one that looks at ancestors.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634
FEWEST_ROWS, MOST_ROWS = 16, 64  # of queries in one program: tensor cores multiply 16 at least
FEWEST_KEYS = 256  # of a share, where all shares are long
MOST_SHARES = 64
SUPPOSED_PROCESSORS = 8  # where there is no device, as in Triton's interpreter


@triton.jit
def _absorb(
    q,
    keys,
    values,
    places,
    held,
    seen,
    largest,
    total,
    sums,
    across,
    inside,
    key_stride,
    value_stride,
    scale,
    PRECISION: tl.constexpr,
    WIDENED: tl.constexpr,
):
    """Take some places into the running softmax: scores in powers of 2, sums in float32."""
    k = tl.load(keys + places[None, :] * key_stride + across[:, None], mask=held[None, :] & inside[:, None], other=0.0)
    if WIDENED:
        k = k.to(tl.float32)
    scores = tl.dot(q, k, input_precision=PRECISION) * scale
    scores = tl.where(seen, scores, float("-inf"))
    now = tl.maximum(largest, tl.max(scores, axis=1))
    finite = tl.where(now == float("-inf"), 0.0, now)
    weights = tl.exp2(scores - finite[:, None])
    shrunk = tl.exp2(largest - finite)
    v = tl.load(
        values + places[:, None] * value_stride + across[None, :], mask=held[:, None] & inside[None, :], other=0.0
    )
    if WIDENED:
        v = v.to(tl.float32)
    sums = tl.dot(weights.to(v.dtype), v, sums * shrunk[:, None], input_precision=PRECISION)
    return now, total * shrunk + tl.sum(weights, axis=1), sums


@triton.jit
def attend_to_shares(
    queries,
    keys,
    values,
    slots,
    bases,
    ancestors,
    oldest,
    partial_sums,
    partial_largest,
    partial_total,
    scale,
    width,
    words,
    tiles,
    key_heads,
    shares,
    query_row,
    query_token,
    query_head,
    key_slot,
    key_place,
    key_head,
    value_slot,
    value_place,
    value_head,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WINDOWED: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDENED: tl.constexpr,
):
    """One program: a tile of the queries of one row and key head, over one share of the places."""
    program = tl.program_id(0)
    share = tl.program_id(1)
    tile = program % tiles
    head = (program // tiles) % key_heads
    row = program // (tiles * key_heads)
    members = tile * ROWS + tl.arange(0, ROWS)
    token = members // GROUPS
    asked = head * GROUPS + members % GROUPS  # the query's head
    real = token < width
    across = tl.arange(0, PADDED)
    inside = across < SIZE
    columns = tl.arange(0, COLUMNS)
    q = tl.load(
        queries + row * query_row + token[:, None] * query_token + asked[:, None] * query_head + across[None, :],
        mask=real[:, None] & inside[None, :],
        other=0.0,
    )
    if WIDENED:
        q = q.to(tl.float32)
    slot = tl.load(slots + row).to(tl.int64)
    base = tl.load(bases + row).to(tl.int32)
    keys += slot * key_slot + head * key_head
    values += slot * value_slot + head * value_head
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    sums = tl.zeros([ROWS, PADDED], tl.float32)
    if share < shares:
        first = base * 0
        since = tl.zeros([ROWS], tl.int32)
        if WINDOWED:
            since = tl.load(oldest + row * width + token, mask=real, other=2**31 - 1).to(tl.int32)
            first = tl.minimum(tl.min(since, axis=0), base)
        count = tl.cdiv(tl.cdiv(base - first, shares), COLUMNS) * COLUMNS
        start = first + share * count
        end = tl.minimum(start + count, base)
        for place in range(start, end, COLUMNS):
            places = place + columns
            held = places < end
            seen = held[None, :] & (places[None, :] >= since[:, None])
            largest, total, sums = _absorb(
                q, keys, values, places, held, seen, largest, total, sums,
                across, inside, key_place, value_place, scale, PRECISION, WIDENED,
            )  # fmt: skip
    else:
        for number in range(0, words * 64, COLUMNS):
            bits = tl.load(ancestors + (row * width + token) * words + number // 64, mask=real, other=0)
            seen = ((bits[:, None] >> (number % 64 + columns).to(tl.int64)[None, :]) & 1) != 0
            held = tl.max(seen.to(tl.int32), axis=0) > 0
            largest, total, sums = _absorb(
                q, keys, values, base + number + columns, held, seen, largest, total, sums,
                across, inside, key_place, value_place, scale, PRECISION, WIDENED,
            )  # fmt: skip
    heads = key_heads * GROUPS
    at = ((row * width + token) * heads + asked) * (shares + 1) + share
    tl.store(partial_largest + at, largest, mask=real)
    tl.store(partial_total + at, total, mask=real)
    tl.store(
        partial_sums + at.to(tl.int64)[:, None] * SIZE + across[None, :], sums, mask=real[:, None] & inside[None, :]
    )


@triton.jit
def join_shares(
    partial_sums,
    partial_largest,
    partial_total,
    output,
    shares,
    SIZE: tl.constexpr,
    PADDED: tl.constexpr,
    SHARES: tl.constexpr,
):
    """One program: the output of one query, from all of its shares."""
    at = tl.program_id(0).to(tl.int64)
    share = tl.arange(0, SHARES)
    exists = share < shares
    across = tl.arange(0, PADDED)
    inside = across < SIZE
    largest = tl.load(partial_largest + at * shares + share, mask=exists, other=float("-inf"))
    total = tl.load(partial_total + at * shares + share, mask=exists, other=0.0)
    most = tl.max(largest, axis=0)
    weights = tl.exp2(largest - tl.where(most == float("-inf"), 0.0, most))
    whole = tl.sum(total * weights, axis=0)
    sums = tl.load(
        partial_sums + (at * shares + share)[:, None] * SIZE + across[None, :],
        mask=exists[:, None] & inside[None, :],
        other=0.0,
    )
    mean = tl.sum(sums * weights[:, None], axis=0) / tl.where(whole == 0.0, 1.0, whole)
    tl.store(output + at * SIZE + across, mean.to(output.dtype.element_ty), mask=inside)


def tree_attention(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    slots: torch.Tensor,
    bases: torch.Tensor,
    ancestors: torch.Tensor,
    scale: float | None = None,
    oldest: torch.Tensor | None = None,
    shares: int | None = None,
) -> torch.Tensor:
    """See `TreeAttention`. Index arrays are contiguous, and the last dimension of the others is.

    Args:
        shares: into how many parts the committed places of a row are split; None chooses by the device and the shapes.
    """
    rows, width, heads, size = queries.shape
    key_heads = keys.shape[2]
    groups = heads // key_heads
    chosen = constants(groups, size, width, oldest is not None, queries.dtype)
    tiles = triton.cdiv(width * groups, chosen["ROWS"])
    programs = rows * key_heads * tiles
    if shares is None:
        shares = shares_for(programs, keys.shape[1], _processors(queries.device))
    parts = shares + 1
    sums = queries.new_empty(rows, width, heads, parts, size, dtype=torch.float32)
    largest = queries.new_empty(rows, width, heads, parts, dtype=torch.float32)
    total = torch.empty_like(largest)
    output = torch.empty_like(queries, memory_format=torch.contiguous_format)
    attend_to_shares[(programs, parts)](
        queries,
        keys,
        values,
        slots,
        bases,
        ancestors,
        bases if oldest is None else oldest,
        sums,
        largest,
        total,
        (size**-0.5 if scale is None else scale) * LOG2_E,
        width,
        ancestors.shape[2],
        tiles,
        key_heads,
        shares,
        *queries.stride()[:3],
        *keys.stride()[:3],
        *values.stride()[:3],
        **chosen,
        WIDENED=queries.dtype is torch.bfloat16 and queries.device.type == "cpu",  # the interpreter cannot multiply it
    )
    join_shares[(rows * width * heads,)](
        sums, largest, total, output, parts, SIZE=size, PADDED=chosen["PADDED"], SHARES=triton.next_power_of_2(parts)
    )
    return output


def constants(groups: int, size: int, width: int, windowed: bool, dtype: torch.dtype) -> dict[str, Any]:
    """What `attend_to_shares` is compiled for."""
    padded = max(triton.next_power_of_2(size), 16)
    return {
        "GROUPS": groups,
        "SIZE": size,
        "PADDED": padded,
        "ROWS": min(max(triton.next_power_of_2(width * groups), FEWEST_ROWS), MOST_ROWS),
        "COLUMNS": 64 if padded <= 128 and dtype is not torch.float32 else 32,
        "WINDOWED": windowed,
        "PRECISION": "ieee" if dtype is torch.float32 else "tf32",
    }


def shares_for(programs: int, capacity: int, processors: int) -> int:
    """So many that there are two programs for each processor, and no share gets too short to pay."""
    return max(min(-(-2 * processors // programs), -(-capacity // FEWEST_KEYS), MOST_SHARES), 1)


@functools.cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return SUPPOSED_PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
