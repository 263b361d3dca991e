"""Looks through the header of a GGUF file before llama.cpp does, which ends the whole process over some that lie."""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
U32, U64 = Struct("<I"), Struct("<Q")
# How single values are stored, by ggml's number for their type.
SCALARS = {number: Struct(f"<{code}") for number, code in zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True)}
STRING, ARRAY = 8, 9
TOKENS = "tokenizer.ggml.tokens"
FEWEST_BYTES_OF_A_VALUE = 8 + 4 + 1  # the length of its key, its type, and a byte
FEWEST_BYTES_OF_A_TENSOR = 8 + 4 + 8 + 4 + 8
LONGEST_NAME = 65_535
MOST_DIMENSIONS = 4
MOST_NUMBERS = 2**63
ALIGNMENT, MOST_ALIGNMENT = 32, 2**20  # of the numbers, in bytes; the first where the file names none


class Damaged(Exception):
    """The header cannot be that of a model."""


@dataclass(frozen=True, slots=True)
class Entries:
    """An array, of which only the place was read.

    Attributes:
        kind: ggml's number for the type of its entries.
        start, end: bytes in the file.
    """

    kind: int
    count: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """What is said of a tensor.

    Attributes:
        shape: innermost dimension first.
        kind: ggml's number for its type.
        offset: of its numbers, in bytes after `Header.data_start`.
        part: where a file is divided, the one that holds it; 0 is the one that was opened.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int
    part: int = 0


@dataclass(slots=True)
class Header:
    """What a GGUF file says of itself.

    Attributes:
        values: by key, texts as bytes, arrays as Entries.
        lacks_bytes: whether a byte has no token `<0x..>` among the tokenizer's.
        data_start: the byte of the file at which the numbers of the tensors begin.
        parts: the other files of a divided one, and where their numbers begin.
        tokens: what the native runtime made of them, which is done once; None before.
    """

    values: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    lacks_bytes: bool = False
    data_start: int = 0
    parts: tuple[tuple[Path, int], ...] = ()
    tokens: Any = field(default=None, compare=False, repr=False)


def read_header(file: Path) -> Header:
    """The header of a GGUF file.

    Raises:
        Damaged: it is cut off, or its counts and lengths cannot be true.
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise Damaged("it does not begin with GGUF")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Reader(data).header()
            except (StructError, OverflowError) as error:
                raise Damaged("it ends inside its header") from error
            except UnicodeDecodeError as error:
                raise Damaged("a name in its header is no UTF-8") from error


class _Reader:
    """Walks through a file; unpacking beyond its end is a StructError."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._size = len(data)
        self._at = len(MAGIC)

    def header(self) -> Header:
        if (version := self._scalar(U32)) not in VERSIONS:
            raise Damaged(f"its version is {version}, and {' and '.join(map(str, VERSIONS))} are known")
        tensors = self._count("tensors", FEWEST_BYTES_OF_A_TENSOR)
        values = self._count("settings", FEWEST_BYTES_OF_A_VALUE)
        found = Header()
        for _ in range(values):
            key = self._text("the name of a setting")
            if key in found.values:
                raise Damaged(f"it gives {key} twice")
            found.values[key] = self._value(key)
        for _ in range(tensors):
            name = self._text("the name of a tensor")
            if name in found.tensors:
                raise Damaged(f"it holds {name} twice")
            found.tensors[name] = self._tensor(name)
        alignment = found.values.get("general.alignment", ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
            raise Damaged(f"its alignment is {alignment}: it must be a power of 2 within 1 to {MOST_ALIGNMENT}")
        found.data_start = -(-self._at // alignment) * alignment
        tokens = found.values.get(TOKENS)
        found.lacks_bytes = isinstance(tokens, Entries) and self._lacks_bytes(tokens)
        return found

    def _scalar(self, kind: Struct) -> Any:
        (value,) = kind.unpack_from(self._data, self._at)
        self._at += kind.size
        return value

    def _count(self, what: str, fewest_bytes: int) -> int:
        count: int = self._scalar(U64)
        if count * fewest_bytes > self._size - self._at:
            raise Damaged(f"it has {self._size} bytes and says that there are {count} {what}")
        return count

    def _text(self, what: str) -> str:
        data = self._bytes(what)
        if len(data) > LONGEST_NAME:
            raise Damaged(f"{what} has {len(data)} bytes")
        return data.decode()

    def _bytes(self, what: str) -> bytes:
        length = self._count(f"bytes in {what}", 1)
        self._at += length
        return self._data[self._at - length : self._at]

    def _value(self, key: str) -> Any:
        kind = self._scalar(U32)
        if kind == STRING:
            return self._bytes(key)
        if kind == ARRAY:
            return self._array(key)
        if kind not in SCALARS:
            raise Damaged(f"{key} is of type {kind}, which is unknown")
        return self._scalar(SCALARS[kind])

    def _array(self, key: str) -> Entries:
        kind = self._scalar(U32)
        start = self._at
        if kind == STRING:
            count = self._count(f"texts in {key}", U64.size)
            self._skip_texts(count, key)
        elif kind in SCALARS:
            size = SCALARS[kind].size
            count = self._count(f"numbers in {key}", size)
            self._at += count * size
        else:
            raise Damaged(f"{key} is an array of type {kind}, which is unknown")
        return Entries(kind, count, start, self._at)

    def _skip_texts(self, count: int, key: str) -> None:
        data, at, unpack = self._data, self._at, U64.unpack_from  # a vocabulary has 150,000
        for _ in range(count):
            at += 8 + unpack(data, at)[0]
        if at > self._size:
            raise Damaged(f"it ends inside {key}")
        self._at = at

    def _tensor(self, name: str) -> Tensor:
        dimensions = self._scalar(U32)
        if dimensions > MOST_DIMENSIONS:
            raise Damaged(f"{name} has {dimensions} dimensions")
        shape = tuple(self._scalar(U64) for _ in range(dimensions))
        kind = self._scalar(U32)
        offset = self._scalar(U64)
        if prod(shape) >= MOST_NUMBERS or 0 in shape:
            raise Damaged(f"{name} is said to have the shape {list(shape)}")
        if offset > self._size:
            raise Damaged(f"{name} is said to begin at byte {offset} and the file has {self._size}")
        return Tensor(shape, kind, offset)

    def _lacks_bytes(self, tokens: Entries) -> bool:
        at = tokens.start
        for byte in range(256):
            piece = b"<0x%02X>" % byte
            wanted = U64.pack(len(piece)) + piece
            found = self._data.find(wanted, at, tokens.end)  # they stand one behind the other
            if found < 0:
                found = self._data.find(wanted, tokens.start, tokens.end)
            if found < 0:
                return True
            at = found
        return False


def texts(file: Path, entries: Entries) -> list[bytes]:
    """An array of texts."""
    data, unpack, size = _bytes(file, entries), U64.unpack_from, U64.size
    found, at = [], 0
    for _ in range(entries.count):  # a vocabulary has 150,000, and somebody waits
        start = at + size
        at = start + unpack(data, at)[0]
        found.append(data[start:at])
    return found


def numbers(file: Path, entries: Entries) -> list[Any]:
    """An array of numbers."""
    return [value for (value,) in SCALARS[entries.kind].iter_unpack(_bytes(file, entries))]


def _bytes(file: Path, entries: Entries) -> bytes:
    """What follows the count."""
    with file.open("rb") as stream:
        stream.seek(entries.start + U64.size)
        return stream.read(entries.end - entries.start - U64.size)
