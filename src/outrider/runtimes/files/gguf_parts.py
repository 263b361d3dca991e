"""How llama.cpp's gguf-split names the parts of a divided file: model-00001-of-00003.gguf."""

from __future__ import annotations

import re

PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


def part_of(file: str) -> tuple[int, int]:
    """Which part of how many a file is, by its name."""
    found = PART.search(file)
    return (int(found[1]), int(found[2])) if found else (1, 1)


def parts_of(first: str) -> list[str]:
    """The names of all parts, by that of the first one."""
    count = part_of(first)[1]
    if count == 1:
        return [first]
    return [PART.sub(f"-{part:05}-of-{count:05}.gguf", first) for part in range(1, count + 1)]
