"""The experts of gpt-oss as its folders have them: all in one, the rows of gates and up projections in turns.

Folders of the hub hold them in MXFP4, in blocks of 32 numbers of 4 bits and a scale each. Others, which transformers
wrote, hold floats, of which the rows are inputs.
"""

from __future__ import annotations

import re

import numpy as np

from outrider.errors import ModelError
from outrider.runtimes.native.weights import MXFP4, Raw, SafetensorsSource

OF_EXPERT = re.compile(r"(model\.layers\.\d+\.mlp\.experts\.)(\d+)\.(gate|up|down)_proj\.(weight|bias)")
HALF = 16  # bytes of a block, and numbers of half of one
AGAIN = "download the model again"


class ExpertsApart:
    """A Source of one expert at a time, by the names that other families give them."""

    def __init__(self, weights: SafetensorsSource) -> None:
        self._weights = weights

    def let_go(self) -> None:
        self._weights.let_go()

    def find(self, name: str) -> Raw | None:
        asked = OF_EXPERT.fullmatch(name)
        if asked is None:
            return self._weights.find(name)
        expert, part = int(asked[2]), asked[3]
        joined = asked[1] + ("down_proj" if part == "down" else "gate_up_proj")
        rows = slice(None) if part == "down" else slice(part == "up", None, 2)
        if asked[4] == "bias":
            bias = _of_expert(self._weights.find(f"{joined}_bias"), expert, 2, joined)
            return None if bias is None else _raw(bias, bias.kind, _numbers(bias)[rows])
        blocks = _of_expert(self._weights.bytes(f"{joined}_blocks"), expert, 4, joined)
        scales = _of_expert(self._weights.bytes(f"{joined}_scales"), expert, 3, joined)
        if blocks is not None and scales is not None:
            return _in_mxfp4(blocks, scales, rows, joined)
        plain = _of_expert(self._weights.find(joined), expert, 3, joined)
        return None if plain is None else _raw(plain, plain.kind, _numbers(plain).T[rows])


def _of_expert(raw: Raw | None, expert: int, dimensions: int, name: str) -> Raw | None:
    """Of the tensors of all experts that of one."""
    if raw is None:
        return None
    if len(raw.shape) != dimensions or expert >= raw.shape[0]:
        raise ModelError(f"{name} has the shape {list(raw.shape)}: {AGAIN}")
    size = len(raw.data) // raw.shape[0]
    return Raw(raw.kind, raw.shape[1:], raw.data[expert * size : (expert + 1) * size])


def _numbers(raw: Raw) -> np.ndarray:
    return raw.data.view({"f32": np.uint32, "uint8": np.uint8}.get(raw.kind, np.uint16)).reshape(raw.shape)


def _raw(of: Raw, kind: str, numbers: np.ndarray) -> Raw:
    return Raw(kind, numbers.shape, np.ascontiguousarray(numbers).view(np.uint8).reshape(-1))


def _in_mxfp4(blocks: Raw, scales: Raw, rows: slice, name: str) -> Raw:
    """As GGUF has it: behind its scale a block, whose first half stands in low digits and not in every other one."""
    if blocks.shape != (*scales.shape, HALF):
        raise ModelError(f"{name} has blocks of {list(blocks.shape)} and scales of {list(scales.shape)}: {AGAIN}")
    first, last = np.split(_numbers(blocks)[rows], 2, axis=-1)
    found = np.empty((*first.shape[:2], 1 + HALF), np.uint8)
    found[..., 0] = _numbers(scales)[rows]
    found[..., 1::2] = first & 15 | last << 4
    found[..., 2::2] = first >> 4 | last & 240
    return Raw(MXFP4, (first.shape[0], 2 * HALF * first.shape[1]), found.reshape(-1))
