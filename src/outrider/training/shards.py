"""Texts on disk: token ids and the target's most probable tokens, in files that are whole or not there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outrider.errors import InputError, first_line
from outrider.runtimes.files.whole_file import whole_file

NAME = re.compile(r"texts-(\d+)\.npz")
ARRAYS = ("tokens", "lengths", "prompts", "top", "probabilities")


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt and its answer.

    Attributes:
        tokens: of both.
        prompt: how many of them are the prompt.
        top: ids [answer tokens, k], the target's most probable ones in the place of each token of the answer.
        probabilities: float16 [answer tokens, k].
    """

    tokens: tuple[int, ...]
    prompt: int
    top: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of texts.

    Attributes:
        seconds: it took to write them.
    """

    texts: list[Text]
    seconds: float


def write_shard(folder: Path, texts: Sequence[Text], tokenizer: str = "", seconds: float = 0.0) -> Path:
    """Add a file to a folder. A process that is killed meanwhile leaves no half file under a shard's name.

    Args:
        tokenizer: the fingerprint; empty where the model has none.
        seconds: it took to write the texts.

    Raises:
        InputError: the file cannot be written.
    """
    path = folder / f"texts-{1 + max(_numbers_in(folder), default=0):05d}.npz"
    arrays = {
        "tokens": np.concatenate([np.array(text.tokens, dtype=np.uint32) for text in texts]),
        "lengths": np.array([len(text.tokens) for text in texts], dtype=np.uint32),
        "prompts": np.array([text.prompt for text in texts], dtype=np.uint32),
        "top": np.concatenate([text.top for text in texts]).astype(np.uint32),
        "probabilities": np.concatenate([text.probabilities for text in texts]).astype(np.float16),
        "tokenizer": np.frombuffer(tokenizer.encode(), dtype=np.uint8),
        "seconds": np.array(seconds),
    }
    try:
        with whole_file(path) as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"texts {path} cannot be written ({error.strerror}): choose another folder") from error
    return path


def shards_of(folder: Path) -> list[Path]:
    """The files of a folder, in the order in which they were written."""
    return [folder / f"texts-{number:05d}.npz" for number in sorted(_numbers_in(folder))]


def read_shards(folder: Path, tokenizer: str | None = None) -> Iterator[Text]:
    """All texts of a folder, in the order in which they were written.

    Args:
        tokenizer: the fingerprint that they must have; None takes any.

    Raises:
        InputError: a file is damaged, or of another tokenizer.
    """
    for path in shards_of(folder):
        yield from read_shard(path, tokenizer).texts


def read_shard(path: Path, tokenizer: str | None = None) -> Shard:
    """One file; as `read_shards`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ARRAYS}
            written = bytes(file["tokenizer"]).decode() if "tokenizer" in file.files else tokenizer
            seconds = float(file["seconds"]) if "seconds" in file.files else 0.0
        texts = list(_texts_in(held))
    # Whatever a damaged file makes zip, zlib and NumPy say.
    except Exception as error:
        raise InputError(f"texts {path} are damaged or none ({first_line(error)}): delete the file") from error
    if tokenizer is not None and written != tokenizer:
        raise InputError(f"texts {path} are of another tokenizer: give each model a folder of its own")
    return Shard(texts, seconds)


def _numbers_in(folder: Path) -> list[int]:
    return [int(found[1]) for path in folder.iterdir() if (found := NAME.fullmatch(path.name))]


def _texts_in(held: Mapping[str, np.ndarray]) -> Iterator[Text]:
    first = row = 0
    for length, prompt in zip(held["lengths"].tolist(), held["prompts"].tolist(), strict=True):
        answered = length - prompt
        text = Text(
            tuple(held["tokens"][first : first + length].tolist()),
            prompt,
            held["top"][row : row + answered],
            held["probabilities"][row : row + answered],
        )
        if not (0 < prompt < length == len(text.tokens) and len(text.top) == len(text.probabilities) == answered):
            raise ValueError("its arrays are of different lengths")
        yield text
        first += length
        row += answered
