"""A file that holds what drafters learned.

A zip of NumPy arrays and a JSON header: its format and version, the vocabulary's size and the tokenizer's fingerprint.
It holds numbers of tokens, nothing that could run.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from outrider.drafters.recycling.frozen import NAMES, Frozen, as_arrays, from_arrays, frozen_of
from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.pruning import most_useful
from outrider.errors import InputError, first_line
from outrider.runtimes.files.whole_file import whole_file

FORMAT = "outrider-drafter-state"
VERSION = 1
LARGEST_FILE = 1 << 28  # bytes, unpacked: nothing that Outrider writes is larger
MOST_SAVED = 200_000  # contexts of two tokens: a file that is read and written again and again stays of this size
ARRAYS = ("header", "documents", "lengths", *(f"{kind}.{name}" for kind in ("single", "pairs") for name in NAMES))


@dataclass(frozen=True)
class DrafterState:
    """What drafters learned of one tokenizer's texts.

    Attributes:
        tokenizer: the fingerprint; empty where the model has none.
        vocab_size: the width of the logits.
        single, pairs: successors by the last token, and by the last two.
        documents: texts that were finished, the oldest first.
        experience: a hash of what it was learned from (`RecyclingMemory`).
        origin: the file that it was read from, for messages.
    """

    tokenizer: str
    vocab_size: int
    single: Frozen
    pairs: Frozen
    documents: Sequence[Sequence[int]] = field(default=())
    experience: int = 0
    origin: str = field(default="this", compare=False)

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

    def require(self, tokenizer: str, vocab_size: int) -> None:
        """Refuse a target whose tokens mean something else.

        Raises:
            InputError: they do.
        """
        if (tokenizer, vocab_size) != (self.tokenizer, self.vocab_size):
            raise InputError(
                f"{self.origin} is the drafter state of another tokenizer ({self.vocab_size} tokens; the target has "
                f"{vocab_size}): give a file of this model's, or a new one"
            )


def state_of(
    memory: RecyclingMemory, documents: Sequence[Sequence[int]] = (), most_pairs: int = MOST_SAVED
) -> DrafterState:
    """What a memory knows, what it started from included.

    Args:
        most_pairs: contexts of two tokens; of more, the least useful are left out.

    Raises:
        InputError: the memory has not met a target yet.
    """
    if memory.vocab_size is None:
        raise InputError("the recycling memory is empty: decode something before it is saved")
    size = memory.vocab_size
    with memory.lock:
        single, pairs = (frozen_of(successors, size) for successors in (memory.single, memory.pairs))
        if len(pairs) > most_pairs:
            longer, shorter = memory.pairs.everything(), memory.single.everything()
            pairs = from_arrays(as_arrays(most_useful(longer, shorter, most_pairs), size), size)
        return DrafterState(memory.tokenizer, size, single, pairs, documents, memory.experience)


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
        arrays |= {f"{kind}.{name}": values for name, values in contexts.arrays().items()}
    arrays["documents"] = np.array([token for text in state.documents for token in text], dtype=np.uint32)
    arrays["lengths"] = np.array([len(text) for text in state.documents], dtype=np.uint32)
    try:
        with whole_file(file) as stream:
            np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        reason = error.strerror or first_line(error)
        raise InputError(f"drafter state {file} cannot be written ({reason}): choose another place") from error


def load_state(file: Path) -> DrafterState:
    """Read a state.

    Raises:
        InputError: it is missing, damaged, of another version, or no state at all.
    """
    try:
        stream = file.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"drafter state {file} does not exist: check the path") from error
    except OSError as error:
        raise InputError(f"drafter state {file} cannot be read ({error.strerror}): check the path") from error
    with stream:
        try:
            return replace(_state_from(_arrays_in(stream)), origin=str(file))
        except InputError as error:
            raise InputError(f"drafter state {file} cannot be used: {error}; delete it to start again") from error
        # Whatever a damaged file makes zip, zlib, json and NumPy say.
        except Exception as error:
            reason = first_line(error)
            raise InputError(f"drafter state {file} is damaged or none ({reason}): delete it to start again") from error


def tokenizer_of(file: Path) -> str | None:
    """The fingerprint in the header of a state, read without the rest; None where the file holds none."""
    try:
        with file.open("rb") as stream:
            return str(json.loads(bytes(_arrays_in(stream, only=("header",))["header"]))["tokenizer"])
    except Exception:  # whatever a damaged file makes zip, zlib, json and NumPy say
        return None


def _arrays_in(stream: IO[bytes], only: Sequence[str] = ARRAYS) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(stream) as held:
        unpacked = sum(member.file_size for member in held.infolist())
    if unpacked > LARGEST_FILE:
        raise InputError(f"it unpacks to {unpacked} bytes, and at most {LARGEST_FILE} are read")
    stream.seek(0)
    with np.load(stream, allow_pickle=False) as opened:
        arrays = {name: opened[name] for name in only if name in opened.files}
    if not all(isinstance(values, np.ndarray) and values.ndim == 1 for values in arrays.values()):
        raise InputError("its arrays are of other types")
    return arrays


def _state_from(arrays: Mapping[str, np.ndarray]) -> DrafterState:
    header = json.loads(bytes(arrays["header"])) if "header" in arrays else None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError("it is no drafter state")
    if header.get("version") != VERSION:
        raise InputError(f"it has version {header.get('version')} and this Outrider reads version {VERSION}")
    tokenizer, vocab_size, experience = header.get("tokenizer"), header.get("vocab_size"), header.get("experience", 0)
    if not isinstance(tokenizer, str) or type(vocab_size) is not int or vocab_size < 1 or type(experience) is not int:
        raise InputError("its header is wrong")
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise InputError(f"it has no {missing[0]}")
    frozen = [
        from_arrays({name: arrays[f"{kind}.{name}"] for name in NAMES}, vocab_size) for kind in ("single", "pairs")
    ]
    return DrafterState(tokenizer, vocab_size, frozen[0], frozen[1], _documents(arrays, vocab_size), experience)


def documents_in(file: Path, tokenizer: str) -> list[list[int]]:
    """The texts in a file of state, where it is one of this tokenizer; else none."""
    try:
        state = load_state(file)
    except InputError:
        return []
    return [list(text) for text in state.documents] if state.tokenizer == tokenizer else []


def _documents(arrays: Mapping[str, np.ndarray], vocab_size: int) -> list[list[int]]:
    tokens, lengths = arrays["documents"], arrays["lengths"]
    if tokens.dtype != np.uint32 or lengths.dtype != np.uint32 or int(lengths.sum(dtype=np.int64)) != len(tokens):
        raise InputError("its documents are of other lengths than it says")
    if len(tokens) and int(tokens.max()) >= vocab_size:
        raise InputError(f"it names token {int(tokens.max())} and has a vocabulary of {vocab_size}")
    ends = [0, *np.cumsum(lengths, dtype=np.int64).tolist()]
    return [tokens[first:end].tolist() for first, end in pairwise(ends)]
