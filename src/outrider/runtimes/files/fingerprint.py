"""A digest of a model's files, from pieces of them: other weights under the same path are noticed."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from outrider.runtimes.files.places import is_hub_name

PIECE = 1_000_000  # bytes read at each end of a file
SAMPLES, SAMPLE = 64, 4096  # how many pieces are read in between, and the bytes of each
LETTERS = 16
# What a text depends on: weights, sizes, tokens, the chat template; not what was written about the model.
PATTERNS = ("*.json", "*.safetensors", "*.bin", "*.gguf", "*.model", "*.tiktoken", "*.txt", "*.jinja", "*.npz")


def weights_fingerprint(path: Path) -> str | None:
    """A digest of the sizes of a model's files and of pieces of each; None where there are none.

    Args:
        path: a file or a folder.
    """
    if path.is_file():
        files = [path]
    else:
        files = sorted({file for pattern in PATTERNS for file in path.glob(pattern) if file.is_file()})
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        # A file may be moved and renamed, so the name of a single file does not count.
        name = file.name if path.is_dir() else ""
        digest.update(f"{name} {size} ".encode())
        with file.open("rb") as stream:
            for start, length in _pieces(size):
                stream.seek(start)
                digest.update(stream.read(length))
    return digest.hexdigest()[:LETTERS]


def hub_commit(name: str) -> str | None:
    """The commit of a model of the hub; None where the name cannot be one.

    Raises:
        ModelError: the hub has no such model, or cannot be reached.
    """
    if not is_hub_name(name) or importlib.util.find_spec("huggingface_hub") is None:
        return None
    from outrider.runtimes.files.hub import commit_of

    return commit_of(name)


def _pieces(size: int) -> list[tuple[int, int]]:
    """(start, length) of the pieces to read of a file of `size` bytes; a small file is read whole."""
    if size <= 2 * PIECE:
        return [(0, size)]
    between = [(PIECE + (size - 2 * PIECE) * number // SAMPLES, SAMPLE) for number in range(SAMPLES)]
    return [(0, PIECE), *between, (size - PIECE, PIECE)]
