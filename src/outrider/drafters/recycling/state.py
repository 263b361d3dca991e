"""A file that holds what drafters learned.

A zip of NumPy arrays and a JSON header: its format and version, the vocabulary's size and the tokenizer's fingerprint.
It holds numbers of tokens, nothing that could run.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from outrider.drafters.recycling.frozen import NAMES, Frozen, as_arrays, from_arrays
from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.pruning import most_useful
from outrider.errors import InputError

FORMAT = "outrider-drafter-state"
VERSION = 1
LARGEST_FILE = 1 << 28  # bytes, unpacked: nothing that Outrider writes is larger


@dataclass(frozen=True)
class DrafterState:
    """What drafters learned of one tokenizer's texts.

    Attributes:
        tokenizer: the fingerprint; empty where the model has none.
        vocab_size: the width of the logits.
        single, pairs: successors by the last token, and by the last two.
        documents: texts that were finished, the oldest first.
        experience: a hash of what it was learned from (`RecyclingMemory`).
    """

    tokenizer: str
    vocab_size: int
    single: Frozen
    pairs: Frozen
    documents: Sequence[Sequence[int]] = field(default=())
    experience: int = 0

    def __repr__(self) -> str:
        return f"DrafterState({len(self.single)} tokens, {len(self.pairs)} pairs, {len(self.documents)} documents)"

    def memory(self) -> RecyclingMemory:
        """A memory that goes on from here."""
        return RecyclingMemory(
            earlier=(self.single, self.pairs),
            vocab_size=self.vocab_size,
            tokenizer=self.tokenizer,
            experience=self.experience,
        )

    def require(self, tokenizer: str, vocab_size: int, name: str) -> None:
        """Refuse a target whose tokens mean something else.

        Raises:
            InputError: they do.
        """
        if (tokenizer, vocab_size) != (self.tokenizer, self.vocab_size):
            raise InputError(
                f"{name} is the drafter state of another tokenizer ({self.vocab_size} tokens; the target has "
                f"{vocab_size}): give a file of this model's, or a new one"
            )


def state_of(
    memory: RecyclingMemory, documents: Sequence[Sequence[int]] = (), most_pairs: int = 1 << 30
) -> DrafterState:
    """What a memory knows, what it started from included.

    Args:
        most_pairs: contexts of two tokens; of more, the least useful are left out.

    Raises:
        InputError: the memory has not met a target yet.
    """
    if memory.vocab_size is None:
        raise InputError("the recycling memory is empty: decode something before it is saved")
    single, pairs = memory.everything()
    kept = most_useful(pairs, single, most_pairs)
    size = memory.vocab_size
    frozen = [from_arrays(as_arrays(contexts, size), size) for contexts in (single, kept)]
    return DrafterState(memory.tokenizer, size, frozen[0], frozen[1], documents, memory.experience)


def save_state(state: DrafterState, file: Path) -> None:
    """Write a state. A process that is killed meanwhile leaves the old file whole.

    Raises:
        InputError: the file cannot be written.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": state.tokenizer,
        "vocab_size": state.vocab_size,
        "experience": state.experience,
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    for kind, contexts in (("single", state.single), ("pairs", state.pairs)):
        held = as_arrays(contexts.everything(), state.vocab_size)
        arrays |= {f"{kind}.{name}": values for name, values in held.items()}
    arrays["documents"] = np.array([token for text in state.documents for token in text], dtype=np.uint32)
    arrays["lengths"] = np.array([len(text) for text in state.documents], dtype=np.uint32)
    try:
        number, half = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(number, "wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
            os.replace(half, file)
        except BaseException:
            with suppress(OSError):
                os.unlink(half)
            raise
    except OSError as error:
        raise InputError(f"drafter state {file} cannot be written ({error.strerror}): choose another place") from error


def load_state(file: Path) -> DrafterState:
    """Read a state.

    Raises:
        InputError: it is missing, damaged, of another version, or no state at all.
    """
    try:
        with zipfile.ZipFile(file) as held:
            unpacked = sum(member.file_size for member in held.infolist())
        if unpacked > LARGEST_FILE:
            raise InputError(f"it unpacks to {unpacked} bytes, and at most {LARGEST_FILE} are read")
        with np.load(file, allow_pickle=False) as opened:
            arrays = {name: opened[name] for name in opened.files}
        return _state_from(arrays)
    except FileNotFoundError as error:
        raise InputError(f"drafter state {file} does not exist: check the path") from error
    except InputError as error:
        raise InputError(f"drafter state {file} cannot be used: {error}; delete it to start again") from error
    # Whatever a damaged file makes zip, zlib, json and NumPy say.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"drafter state {file} is damaged or none ({reason}): delete it to start again") from error


def tokenizer_of(file: Path) -> str | None:
    """The fingerprint in the header of a state, read without the rest; None where the file holds none."""
    try:
        with np.load(file, allow_pickle=False) as opened:
            header = json.loads(bytes(opened["header"]))
        return str(header["tokenizer"])
    except Exception:  # whatever a damaged file makes zip, zlib, json and NumPy say
        return None


def _state_from(arrays: Mapping[str, np.ndarray]) -> DrafterState:
    header = json.loads(bytes(arrays["header"]))
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError("it is no drafter state")
    if header.get("version") != VERSION:
        raise InputError(f"it has version {header.get('version')} and this Outrider reads version {VERSION}")
    tokenizer, vocab_size, experience = header["tokenizer"], header["vocab_size"], header.get("experience", 0)
    if not isinstance(tokenizer, str) or type(vocab_size) is not int or vocab_size < 1 or type(experience) is not int:
        raise InputError("its header is wrong")
    frozen = [
        from_arrays({name: arrays[f"{kind}.{name}"] for name in NAMES}, vocab_size) for kind in ("single", "pairs")
    ]
    return DrafterState(tokenizer, vocab_size, frozen[0], frozen[1], _documents(arrays, vocab_size), experience)


def _documents(arrays: Mapping[str, np.ndarray], vocab_size: int) -> list[list[int]]:
    tokens, lengths = arrays["documents"], arrays["lengths"]
    if tokens.dtype != np.uint32 or lengths.dtype != np.uint32 or int(lengths.sum(dtype=np.int64)) != len(tokens):
        raise InputError("its documents are of other lengths than it says")
    if len(tokens) and int(tokens.max()) >= vocab_size:
        raise InputError(f"it names token {int(tokens.max())} and has a vocabulary of {vocab_size}")
    ends = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
    return [tokens[first:end].tolist() for first, end in pairwise(ends)]
