"""The texts of several folders, each once; a hash decides which of them measure and are never learned from."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from outrider.training.shards import Text, read_shard, shards_of

HELD_OUT = 1 / 12  # of the texts
FEWEST = 12  # texts
MOST_MEASURED = 64  # texts held out that are measured with: those of the lowest hashes
LARGEST = 2**64


class Library:
    """Texts to learn from, and texts to measure with.

    A text belongs to its prompt: of two answers to one prompt the first is kept. The prompt's hash decides whether it
    is held out, so that a later run, with more texts or in another order, learns from none that an earlier one
    measured with.

    Args:
        folders: of shards; they are read by `refresh`.
        tokenizer: the fingerprint that all texts must have.

    Attributes:
        learned: texts to learn from.
    """

    def __init__(self, folders: Sequence[Path], tokenizer: str) -> None:
        self.learned: list[Text] = []
        self._held_out: list[tuple[int, Text]] = []
        self._folders = tuple(folders)
        self._tokenizer = tokenizer
        self._read: set[Path] = set()
        self._prompts: set[int] = set()

    def __len__(self) -> int:
        return len(self.learned) + len(self._held_out)

    @property
    def held_out(self) -> list[Text]:
        """Texts to measure with."""
        return [text for _, text in sorted(self._held_out, key=lambda pair: pair[0])[:MOST_MEASURED]]

    @property
    def suffices(self) -> bool:
        """Whether there are enough texts to learn from, and one to measure with."""
        return len(self) >= FEWEST and bool(self._held_out) and bool(self.learned)

    def knows(self, prompt: Sequence[int]) -> bool:
        """Whether there is an answer to it."""
        return _hash(prompt) in self._prompts

    def add(self, text: Text) -> bool:
        """False for a text whose prompt is known, which is left out."""
        number = _hash(text.tokens[: text.prompt])
        if number in self._prompts:
            return False
        self._prompts.add(number)
        if number < HELD_OUT * LARGEST:
            self._held_out.append((number, text))
        else:
            self.learned.append(text)
        return True

    def refresh(self) -> None:
        """Read the files that came since the last time.

        Raises:
            InputError: a file is damaged, or of another tokenizer.
        """
        for path in (path for folder in self._folders for path in shards_of(folder)):
            if path not in self._read:
                self._read.add(path)
                for text in read_shard(path, self._tokenizer).texts:
                    self.add(text)


def _hash(prompt: Sequence[int]) -> int:
    written = ",".join(map(str, prompt)).encode()
    return int.from_bytes(blake2b(written, digest_size=8).digest(), "big")
