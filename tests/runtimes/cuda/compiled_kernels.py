"""Compiles the Triton kernels for an H100, which needs none.

`python -m runtimes.cuda.compiled_kernels` prints the bytes of shared memory of each, one line a kernel.
"""

import json
from collections.abc import Iterator
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from outrider.runtimes.torch.cuda import kernels

H100 = GPUTarget("cuda", 90, 32)
NAMES = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}
Arguments = tuple[Any, dict[str, str], dict[str, Any]]  # a kernel, the types of its arguments, its constants
PARTIAL = dict.fromkeys(("partial_sums", "partial_largest", "partial_total"), "*fp32")
FLOATS = {"queries", "keys", "values"}
SHAPES = [  # groups, head size, width, windowed, dtype
    (4, 128, 1, False, torch.bfloat16),
    (2, 256, 64, True, torch.float16),
]


def joining(parts: int, size: int, dtype: torch.dtype) -> Arguments:
    types = {
        "partial_sums": "*fp32",
        "partial_largest": "*fp32",
        "partial_total": "*fp32",
        "output": f"*{NAMES[dtype]}",
    }
    padded = max(triton.next_power_of_2(size), 16)
    return kernels.join_shares, types, {"SIZE": size, "PADDED": padded, "SHARES": triton.next_power_of_2(parts)}


def attention(groups: int, size: int, width: int, windowed: bool, dtype: torch.dtype) -> Arguments:
    types = dict.fromkeys(FLOATS, f"*{NAMES[dtype]}")
    types |= dict.fromkeys(("slots", "bases", "ancestors", "oldest"), "*i64")
    types |= {**PARTIAL, "scale": "fp32"}
    constants = kernels.constants(groups, size, width, windowed, dtype) | {"WIDENED": False}
    return kernels.attend_to_shares, types, constants


def compiled() -> Iterator[tuple[str, int]]:
    for shape in SHAPES:
        yield f"attention {shape}", shared_memory(*attention(*shape))
    yield "joining", shared_memory(*joining(65, 128, torch.bfloat16))


def shared_memory(kernel: Any, types: dict[str, str], constants: dict[str, Any]) -> int:
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    return int(triton.compile(ASTSource(kernel, signature, constants), target=H100).metadata.shared)


if __name__ == "__main__":
    for name, size in compiled():
        print(json.dumps([name, size]), flush=True)
