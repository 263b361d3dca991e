"""Weights in int8 or int4 on a GPU, by torchao, where it is installed.

int4 is multiplied as it lies (PyTorch's tinygemm kernel), and a pass reads a quarter of the memory. int8 saves memory
alone: without torch.compile torchao widens the weights in each pass.
"""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import torch

from outrider.errors import SettingError, first_line
from outrider.runtimes.torch.linears import Build, DenseLinear, Linear

KINDS = ("int8", "int4")
GROUP = 128  # weights of an output that share a scale in int4


def require_torchao(dtype: str) -> None:
    """Raises SettingError where it is not installed."""
    if importlib.util.find_spec("torchao") is None:
        raise SettingError(f"dtype {dtype} on a GPU needs torchao: pip install torchao, or use bfloat16")


def build_of(kind: str) -> Build:
    """What lays out the linears of a model on a GPU."""
    return partial(quantised, kind) if kind in KINDS else DenseLinear


def quantised(kind: str, weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    """The linear of a weight [outputs, inputs] in int8 or int4.

    A weight whose inputs are no multiple of GROUP stays as it is in int4.
    """
    outputs, inputs = weight.shape
    linear = torch.nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = torch.nn.Parameter(bias, requires_grad=False)
    quantise(linear, kind)
    return linear


def quantise(module: torch.nn.Module, kind: str) -> None:
    """Quantise the linears of a module in place.

    Raises:
        SettingError: the device cannot multiply such weights.
    """
    from torchao.quantization import quantize_

    try:
        quantize_(module, _config(kind))
    except (AssertionError, ImportError, RuntimeError, ValueError) as error:
        raise SettingError(f"weights cannot be in {kind} here: {first_line(error)}; use bfloat16") from error


def _config(kind: str) -> Any:
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig

    if kind == "int8":
        return Int8WeightOnlyConfig(set_inductor_config=False)
    return Int4WeightOnlyConfig(GROUP, set_inductor_config=False, int4_packing_format="tile_packed_to_4d")
