"""GGUF files of the Hugging Face hub, by the names that users of llama.cpp know: user/model-GGUF:Q4_K_M."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from outrider.errors import ModelError
from outrider.runtimes.files.gguf_parts import part_of, parts_of
from outrider.runtimes.files.hub import fetch_listed, list_files

SUFFIX = ".gguf"
# What is taken where the name says nothing: what llama.cpp takes, then others that it computes fast.
USUAL = ("Q4_K_M", "Q4_0", "Q8_0")
NOT_MODELS = ("mmproj", "imatrix")  # images' projections, and statistics that quantisers use
MOST_SHOWN = 12  # files in a message


@lru_cache(maxsize=16)
def gguf_file(name: str) -> Path | None:
    """The file of a model of the hub, downloaded the first time; of a divided one the first part.

    Args:
        name: "user/model", or "user/model:which", where `which` is a quantisation (Q4_K_M) or a file's whole name.

    Returns:
        None where the repository holds no GGUF files, and none was asked for.

    Raises:
        ModelError: there is no such model or file, or it cannot be downloaded.
    """
    repository, _, which = name.partition(":")
    parts = choose(list_files(repository), which, name)
    fetched = [fetch_listed(repository, part) for part in parts]
    return fetched[0] if fetched else None


def choose(files: Sequence[str], which: str, name: str) -> list[str]:
    """The parts of the file that a name means, in their order; none where there are no GGUF files, and none is asked
    for.

    Raises:
        ModelError: no file is called so, or parts are missing.
    """
    found = sorted(file for file in files if file.endswith(SUFFIX) and not _is_no_model(file))
    firsts = [file for file in found if part_of(file)[0] == 1]
    if not firsts and not which:
        return []
    wanted = [which] if which else [*USUAL, *(PurePosixPath(file).name for file in firsts)]
    for each in wanted:
        named = [file for file in firsts if _is_called(file, each)]
        if named:
            return _all_parts(min(named, key=lambda file: (len(file), file)), found, name)
    shown = ", ".join(PurePosixPath(file).name for file in firsts[:MOST_SHOWN]) or "no GGUF files"
    more = f" and {len(firsts) - MOST_SHOWN} more" if len(firsts) > MOST_SHOWN else ""
    raise ModelError(f"model {name} names no file: there are {shown}{more}; give one of them behind the colon")


def _is_no_model(file: str) -> bool:
    return any(word in PurePosixPath(file).name.lower() for word in NOT_MODELS)


def _is_called(file: str, which: str) -> bool:
    """Whether a file's path, or its name, is `which`, or has it between other words."""
    if file == which or PurePosixPath(file).name == which:
        return True
    return re.search(rf"(^|[-./]){re.escape(which)}([-./]|$)", file, re.IGNORECASE) is not None


def _all_parts(first: str, files: Sequence[str], name: str) -> list[str]:
    parts = parts_of(first)
    missing = [part for part in parts if part not in files]
    if missing:
        raise ModelError(f"model {name} lacks {missing[0]}, a part of {first}: choose another file of it")
    return parts
