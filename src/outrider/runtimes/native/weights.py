"""Weights as they lie in files, without a copy: GGUF and safetensors."""

from __future__ import annotations

import mmap
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np

from outrider.errors import ModelError
from outrider.runtimes.files.folder import LENGTH_BYTES, head_of
from outrider.runtimes.llamacpp.header import Header

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
FLOATS = {"f32": 4, "f16": 2, "bf16": 2}  # bytes of a number
NUMBERS = {**FLOATS, "int64": 8, "int32": 4, "uint8": 1}
MXFP4 = "mxfp4"
# Numbers and bytes of a block.
BLOCKS = {
    "q8_0": (32, 34),
    "q4_0": (32, 18),
    "q4_1": (32, 20),
    "q5_0": (32, 22),
    "q5_1": (32, 24),
    "q2_k": (256, 84),
    "q3_k": (256, 110),
    "q4_k": (256, 144),
    "q5_k": (256, 176),
    "q6_k": (256, 210),
    "iq4_nl": (32, 18),
    MXFP4: (32, 17),
    "iq4_xs": (256, 136),
}
GGML_TYPES = {
    0: "f32",
    1: "f16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    10: "q2_k",
    11: "q3_k",
    12: "q4_k",
    13: "q5_k",
    14: "q6_k",
    20: "iq4_nl",
    23: "iq4_xs",
    30: "bf16",
    39: MXFP4,
}
SAFETENSORS_TYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16"}
SAFETENSORS_BYTES = {"U8": "uint8"}
SAFETENSORS_INTEGERS = {"I64": "int64", "I32": "int32"}


@dataclass(frozen=True, slots=True)
class Raw:
    """A tensor as it lies in its file.

    Attributes:
        shape: outermost dimension first.
        data: its bytes.
    """

    kind: str
    shape: tuple[int, ...]
    data: Bytes

    def floats(self) -> list[float]:
        """The numbers of a vector.

        Raises:
            ModelError: it is quantised.
        """
        if self.kind not in FLOATS:
            raise ModelError(f"a vector of weights is of type {self.kind}: download the model again")
        if self.kind == "bf16":
            numbers = (self.data.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
        else:
            numbers = self.data.view(np.float32 if self.kind == "f32" else np.float16).astype(np.float32)
        return numbers.tolist()  # type: ignore[no-any-return]

    def unstacked(self) -> list[Raw]:
        """The tensors along the outermost dimension, without a copy."""
        return [Raw(self.kind, self.shape[1:], part) for part in self.data.reshape(self.shape[0], -1)]


class Source(Protocol):
    """Tensors by name."""

    def find(self, name: str) -> Raw | None: ...

    def let_go(self) -> None:
        """Give back the memory in which the files were read so far: they stay readable."""


class Mapped:
    """A file in memory.

    Attributes:
        data: its bytes.
    """

    def __init__(self, file: Path) -> None:
        with file.open("rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self.data: Bytes = np.frombuffer(self._map, np.uint8)

    def let_go(self) -> None:
        # What was read counts as memory of this process until the system needs it: the whole model, beside the packed
        # one. The system's cache keeps it all the same.
        if sys.platform != "win32":  # which has no madvise
            self._map.madvise(mmap.MADV_DONTNEED)


class GgufSource:
    """The tensors of a GGUF file, and of its other parts where it is divided.

    Raises:
        ModelError: a tensor does not lie within the file.
    """

    def __init__(self, file: Path, header: Header) -> None:
        self._tensors = header.tensors
        self._parts = [(each, start, Mapped(each)) for each, start in ((file, header.data_start), *header.parts)]

    def let_go(self) -> None:
        for _, _, part in self._parts:
            part.let_go()

    def find(self, name: str) -> Raw | None:
        tensor = self._tensors.get(name)
        if tensor is None:
            return None
        kind, (file, start, part) = GGML_TYPES.get(tensor.kind), self._parts[tensor.part]
        if kind is None:
            raise ModelError(f"{name} of {file} is of ggml's type {tensor.kind}, which is not computed here")
        shape = tuple(reversed(tensor.shape))
        return Raw(kind, shape, _cut(part.data, start + tensor.offset, kind, shape, f"{name} of {file}"))


class SafetensorsSource:
    """The tensors of the safetensors files of a folder.

    Raises:
        ModelError: a file is damaged.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files: list[Mapped] = []
        self._places: dict[str, tuple[Path, Bytes, int, Mapping[str, Any]]] = {}
        for file in files:
            head = head_of(file)
            head.pop("__metadata__", None)
            with file.open("rb") as stream:
                start = LENGTH_BYTES + int.from_bytes(stream.read(LENGTH_BYTES), "little")
            self._files.append(Mapped(file))
            self._places |= {name: (file, self._files[-1].data, start, entry) for name, entry in head.items()}

    def let_go(self) -> None:
        for file in self._files:
            file.let_go()

    def integers(self, name: str) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """A vector of whole numbers; None where there is none.

        Raises:
            ModelError: it is of another type, or damaged.
        """
        raw = self._read(name, SAFETENSORS_INTEGERS)
        return None if raw is None else raw.data.copy().view(raw.kind).astype(np.int64)

    def bytes(self, name: str) -> Raw | None:
        return self._read(name, SAFETENSORS_BYTES)

    def find(self, name: str) -> Raw | None:
        return self._read(name, SAFETENSORS_TYPES)

    def _read(self, name: str, types: Mapping[str, str]) -> Raw | None:
        if name not in self._places:
            return None
        file, data, start, entry = self._places[name]
        where = f"{name} of {file}"
        shape, offsets = entry.get("shape"), entry.get("data_offsets")
        kind = types.get(str(entry.get("dtype")))
        if kind is None:
            raise ModelError(f"{where} is of type {entry.get('dtype')}: the native runtime reads {_listed(types)}")
        if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
            raise ModelError(f"{where} has no shape or place in the file: download it again")
        cut = _cut(data, start + offsets[0], kind, tuple(shape), where)
        if len(cut) != offsets[1] - offsets[0]:
            raise ModelError(f"{where} has {offsets[1] - offsets[0]} bytes and needs {len(cut)}: download it again")
        return Raw(kind, tuple(shape), cut)


def _listed(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"


def _cut(data: Bytes, start: int, kind: str, shape: tuple[int, ...], where: str) -> Bytes:
    numbers = prod(shape)
    if kind in BLOCKS:
        block, of_block = BLOCKS[kind]
        if not shape or shape[-1] % block:
            raise ModelError(f"{where} has rows of {shape[-1:]} numbers: {kind} comes in blocks of {block}")
        size = numbers // block * of_block
    else:
        size = numbers * NUMBERS[kind]
    if start + size > len(data):
        raise ModelError(f"{where} ends at byte {start + size} and the file has {len(data)}: download it again")
    return data[start : start + size]


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in values)
