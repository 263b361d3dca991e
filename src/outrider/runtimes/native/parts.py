"""GGUF files that are divided into several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from outrider.errors import ModelError
from outrider.runtimes.files.gguf_parts import part_of, parts_of
from outrider.runtimes.llamacpp.header import Damaged, Header, read_header

COUNT = "split.count"


def with_all_parts(file: Path, header: Header) -> Header:
    """The header of the first part, with the tensors of all of them; of a file that is whole its own.

    Raises:
        ModelError: it has another name than gguf-split gives, or a part is missing or damaged.
    """
    count = header.values.get(COUNT) or 1
    if count == 1:
        return header
    if part_of(file.name) != (1, count):
        raise ModelError(f"model file {file} is one of {count} parts: call it NAME-00001-of-{count:05}.gguf")
    tensors, parts = dict(header.tensors), []
    for number, name in enumerate(parts_of(file.name)[1:], 1):
        part = file.with_name(name)
        try:
            found = read_header(part)
        except (Damaged, OSError, ValueError) as error:
            raise ModelError(f"model file {part} cannot be opened: {error}; download it again") from error
        parts.append((part, found.data_start))
        tensors |= {name: replace(tensor, part=number) for name, tensor in found.tensors.items()}
    return replace(header, tensors=tensors, parts=tuple(parts))
