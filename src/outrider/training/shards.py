"""Texts on disk: token ids and the target's most probable tokens, in files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


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


def write_shard(folder: Path, texts: Sequence[Text]) -> Path:
    """Add a file to a folder. A process that is killed meanwhile leaves no half file under a shard's name."""
    number = 1 + max((int(path.stem.split("-")[1]) for path in folder.glob("texts-*.npz")), default=0)
    path = folder / f"texts-{number:05d}.npz"
    half = path.with_suffix(".tmp")
    with half.open("wb") as file:
        np.savez_compressed(
            file,
            tokens=np.concatenate([np.array(text.tokens, dtype=np.uint32) for text in texts]),
            lengths=np.array([len(text.tokens) for text in texts], dtype=np.uint32),
            prompts=np.array([text.prompt for text in texts], dtype=np.uint32),
            top=np.concatenate([text.top for text in texts]).astype(np.uint32),
            probabilities=np.concatenate([text.probabilities for text in texts]).astype(np.float16),
        )
    os.replace(half, path)
    return path


def read_shards(folder: Path) -> Iterator[Text]:
    """All texts of a folder, in the order in which they were written."""
    for path in sorted(folder.glob("texts-*.npz")):
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ("tokens", "lengths", "prompts", "top", "probabilities")}
        first = row = 0
        for length, prompt in zip(held["lengths"].tolist(), held["prompts"].tolist(), strict=True):
            answered = length - prompt
            yield Text(
                tuple(held["tokens"][first : first + length].tolist()),
                prompt,
                held["top"][row : row + answered],
                held["probabilities"][row : row + answered],
            )
            first += length
            row += answered
