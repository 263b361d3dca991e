"""Linear layers for inference on a CPU, each with its weights laid out once for a fast kernel.

All take float activations [tokens, inputs] and return [tokens, outputs] in the same precision.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

Linear = Callable[[torch.Tensor], torch.Tensor]
Build = Callable[[torch.Tensor, torch.Tensor | None], Linear]  # of a weight [outputs, inputs] and a bias
EXPECTED_TOKENS = 8  # per pass; oneDNN chooses its blocks for this number
INT8_LARGEST = 127
SECOND_DIGIT = 254  # what remains after the first digit is at most half a step: this factor fills the int8 range
EXACT_INPUTS = 2**24 // INT8_LARGEST**2  # the sums of so many products of int8 are whole numbers that float32 holds
OUTPUTS_AT_ONCE = 1024  # whose weights as float32 stay in the processor's cache


class DenseLinear:
    """The weight as it is."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, self.weight, self.bias)


class TransposedLinear:
    """The weight as [inputs, outputs]: faster for a few tokens, not slower for one."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = weight.t().contiguous()
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)


class Float16Linear:
    """float16 weights in FBGEMM's layout, multiplied and summed in float32: half the memory traffic of float32.

    A token's result does not depend on the other tokens of the pass, bit for bit.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.float(), None if bias is None else bias.float())

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.quantized.linear_dynamic_fp16(x, self.packed)
        return y


class ReorderedLinear:
    """The weight in oneDNN's blocked layout, so that oneDNN does not reorder it for every product."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), EXPECTED_TOKENS)
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


class Int8Linear:
    """int8 weights, one scale per output; activations quantised on the fly into two int8 digits, one scale per token.

    PyTorch's own dynamic quantisation takes one scale for the whole pass. Then a token's result would depend on the
    drafts beside it, and the target would not have *one* distribution. Here it depends on the token alone. Integer sums
    have no rounding, so it is the same in any batch, bit for bit. The second digit keeps precision where a token has a
    few very large activations; one call computes the products of both digits and costs little more than one of them.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        largest = weight.float().abs().amax(dim=1).clamp_(min=torch.finfo(torch.float32).tiny)
        scale = largest / INT8_LARGEST  # [outputs]
        self.weight = torch.round(weight.float() / scale[:, None]).to(torch.int8).t()
        self.scale = scale / (INT8_LARGEST * SECOND_DIGIT)
        self.bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        count = len(x)
        largest = x.abs().amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(x.dtype).tiny)  # [tokens, 1]
        scaled = x * (INT8_LARGEST / largest)
        first = scaled.round()
        digits = torch.empty((2 * count, x.shape[1]), dtype=torch.int8)
        digits[:count] = first
        digits[count:] = scaled.sub_(first).mul_(SECOND_DIGIT).round_()
        sums = multiply_int8(digits, self.weight)  # int32 [2 * tokens, outputs]
        y = torch.add(sums[count:], sums[:count], alpha=SECOND_DIGIT) * self.scale * largest
        y = y.to(x.dtype)
        return y if self.bias is None else y + self.bias


def multiply_int8(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """int32 [tokens, outputs] of int8 [tokens, inputs] and [inputs, outputs], none of them -128."""
    return torch._int_mm(x, weight) if computes_int8() else multiply_in_float32(x, weight)


def multiply_in_float32(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same numbers, piece by piece in float32, which rounds none of them.

    Where a processor has no instructions for int8, PyTorch's own product takes twice as long for one token, and forty
    times as long for a prompt.
    """
    sums = torch.zeros((len(x), weight.shape[1]), dtype=torch.int32)
    for first in range(0, weight.shape[0], EXACT_INPUTS):
        inputs = slice(first, first + EXACT_INPUTS)
        numbers = x[:, inputs].float()
        for output in range(0, weight.shape[1], OUTPUTS_AT_ONCE):
            outputs = slice(output, output + OUTPUTS_AT_ONCE)
            sums[:, outputs] += torch.mm(numbers, weight[inputs, outputs].float()).to(torch.int32)
    return sums


def build(kind: str, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Linear:
    """The linear for `weight` [outputs, inputs] that is fast on this processor."""
    if kind == "int8":
        return Int8Linear(weight, None if bias is None else bias.float())
    if kind == "bfloat16" and computes_bfloat16():
        return ReorderedLinear(weight, bias)
    if kind in ("float16", "bfloat16") and computes_float16():
        # float16 has more digits than bfloat16 and enough range for weights, and this processor does not emulate it.
        return Float16Linear(weight, bias)
    if kind == "float32":
        # Measured with 1 to 16 tokens: wide products gain from oneDNN's blocks, the others from the transposed layout.
        widening = weight.shape[0] > 2 * weight.shape[1] and torch._C._has_mkldnn
        return ReorderedLinear(weight, bias) if widening else TransposedLinear(weight, bias)
    return DenseLinear(weight, bias)


def activation_dtype(kind: str) -> torch.dtype:
    """The dtype of activations between linears of `kind`."""
    if kind == "bfloat16" and (computes_bfloat16() or not computes_float16()):
        return torch.bfloat16
    return torch.float32


def computes_float16() -> bool:
    """Whether float16 weights can be multiplied in float32: FBGEMM does so on x86 processors."""
    return "fbgemm" in torch.backends.quantized.supported_engines


def computes_int8() -> bool:
    """Whether the processor multiplies int8 by instructions of its own: all but x86 without VNNI."""
    x86 = bool(torch.cpu._is_avx2_supported())
    return not x86 or bool(torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported())


def computes_bfloat16() -> bool:
    """Whether the processor has bfloat16 instructions; emulation is slow."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
