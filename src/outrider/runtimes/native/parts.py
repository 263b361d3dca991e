"""GGUF files that are divided into several."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from outrider.errors import ModelError
from outrider.runtimes.files.gguf_parts import part_of, parts_of
from outrider.runtimes.llamacpp.header import Damaged, Header, read_header

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"


def with_all_parts(file: Path, header: Header) -> Header:
    """The header of the first part, with the tensors of all of them; of a file that is whole its own.

    Raises:
        ModelError: it has another name than gguf-split gives, or a part is missing or damaged.
    """
    count = header.values.get(COUNT) or 1
    if count == 1:
        return header
    if not isinstance(count, int) or count < 1:
        raise _damaged(file, f"it does not say of how many parts it is ({COUNT})")
    if part_of(file.name) != (1, count):
        raise ModelError(f"model file {file} is one of {count} parts: call it NAME-00001-of-{count:05}.gguf")
    tensors, parts = dict(header.tensors), []
    for number, name in enumerate(parts_of(file.name)[1:], 1):
        part = file.with_name(name)
        try:
            found = read_header(part)
        except (Damaged, OSError, ValueError) as error:
            raise _damaged(part, str(error)) from error
        if (found.values.get(NUMBER), found.values.get(COUNT)) != (number, count):
            raise _damaged(part, f"it is not part {number + 1} of {count}, as its name says")
        twice = next((name for name in found.tensors if name in tensors), None)
        if twice is not None:
            raise _damaged(part, f"it has {twice}, which an earlier part has too")
        parts.append((part, found.data_start))
        tensors |= {name: replace(tensor, part=number) for name, tensor in found.tensors.items()}
    if header.values.get(TENSORS, len(tensors)) != len(tensors):
        raise _damaged(file, f"its parts have {len(tensors)} weights and it says {header.values[TENSORS]}")
    return replace(header, tensors=tensors, parts=tuple(parts))


def _damaged(file: Path, why: str) -> ModelError:
    return ModelError(f"model file {file} cannot be opened: {why}; download it again")
