"""What recycling keeps across sequences, requests and engines."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from threading import RLock
from typing import Any

import numpy as np

from outrider.drafters.recycling.compiled import CompiledSuccessors
from outrider.drafters.recycling.frozen import Frozen
from outrider.drafters.recycling.successors import Earlier, Known, Successors, packed
from outrider.errors import InputError, SettingError
from outrider.maths.noise import MASK
from outrider.runtimes.native.library import drafting
from outrider.values import whole

MOST_CONTEXTS = 100_000  # of two tokens, and of one
TOKEN_BITS = 32
FORGETTING = (0.02, 0.1)  # the least weight of a new observation, for one token and two


class RecyclingMemory:
    """Successors by the last token and by the last two. May be shared by the threads of several engines.

    Args:
        most: contexts of each length.
        earlier: what was learned before, for one token and for two.
        vocab_size: that it was learned with; None takes the first target's.
        tokenizer: its fingerprint, for files; empty where there is none.
        experience: a hash of what it was learned from; 0 where that has nothing to do with texts that come.

    Attributes:
        experience: with what was learned since.
        library: the compiled library, where it holds the successors; else None.
        lock: held while it learns. Hold it while you look up.

    Raises:
        SettingError: most is below 1.
    """

    def __init__(
        self,
        most: int = MOST_CONTEXTS,
        *,
        earlier: tuple[Earlier | None, Earlier | None] = (None, None),
        vocab_size: int | None = None,
        tokenizer: str = "",
        experience: int = 0,
    ) -> None:
        most = whole("most", most, 1)
        self.vocab_size = vocab_size
        self.tokenizer = tokenizer
        self.experience = experience
        readable = all(each is None or isinstance(each, Frozen) for each in earlier)
        self.library = drafting() if readable else None
        self.single = _successors(self.library, most, FORGETTING[0], earlier[0])
        self.pairs = _successors(self.library, most, FORGETTING[1], earlier[1])
        self.lock = RLock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.single)} tokens, {len(self.pairs)} pairs)"

    def require_width(self, vocab_size: int) -> None:
        """Refuse a target whose tokens mean something else.

        Raises:
            SettingError: the memory is of another vocabulary.
        """
        if self.vocab_size is None:
            self.vocab_size = vocab_size
        if vocab_size != self.vocab_size:
            raise SettingError(
                f"the recycling memory is of a vocabulary of {self.vocab_size} tokens and the target has {vocab_size}: "
                "give each target a memory of its own"
            )

    def learn(
        self,
        contexts: Sequence[tuple[int | None, int]],
        tokens: np.ndarray | Sequence[Sequence[int]],
        probabilities: np.ndarray | Sequence[Sequence[float]],
    ) -> int:
        """The target was at these contexts; returns what this adds to the experience.

        Args:
            contexts: of each, the last token but one (None at the start of a text) and the last one.
            tokens, probabilities: [contexts, count], its most probable next tokens, likeliest first. Contexts with a
                probability that is no finite number are left out.
        """
        if not len(contexts):
            return 0
        tokens = np.ascontiguousarray(tokens, dtype=np.int64)
        probabilities = np.ascontiguousarray(probabilities, dtype=np.float32)
        if len(tokens) != len(contexts) or tokens.shape != probabilities.shape:
            raise InputError(f"{len(contexts)} contexts have {tokens.shape} tokens and {probabilities.shape} shares")
        with self.lock:
            if not self._note(contexts, tokens, probabilities):
                fine = np.flatnonzero(np.isfinite(probabilities).all(axis=1)).tolist()
                return self.learn([contexts[place] for place in fine], tokens[fine], probabilities[fine])
            added = _hash(contexts, tokens)
            self.experience = (self.experience + added) & MASK
        return added

    def _note(self, contexts: Sequence[tuple[int | None, int]], tokens: np.ndarray, probabilities: np.ndarray) -> bool:
        """Note all of them, or none where a probability is no finite number; whether they were noted."""
        if isinstance(self.pairs, CompiledSuccessors) and isinstance(self.single, CompiledSuccessors):
            return self.pairs.note_all(self.single, contexts, tokens, probabilities)
        if not np.isfinite(probabilities).all():
            return False
        for (before, last), row in zip(contexts, packed(tokens, probabilities), strict=True):
            self.single.note(last, row)
            if before is not None:
                self.pairs.note(pair_key(before, last), row)
        return True

    def everything(self) -> tuple[dict[int, Known], dict[int, Known]]:
        """All contexts of one token and of two, those that it started from included; what is known of each."""
        with self.lock:
            return self.single.everything(), self.pairs.everything()

    def marks(self, context: Sequence[int]) -> tuple[object, object]:
        """Two objects that stay the same ones while nothing was learned of the last two tokens, and of the last one."""
        last = context[-1]
        pair = self.pairs.mark(pair_key(context[-2], last)) if len(context) > 1 else None
        return pair, self.single.mark(last)

    def find(self, context: Sequence[int]) -> tuple[Known | None, Known | None]:
        """What is known of the last two tokens, and of the last one."""
        last = context[-1]
        pair = self.pairs.find(pair_key(context[-2], last)) if len(context) > 1 else None
        return pair, self.single.find(last)


def _successors(library: Any | None, most: int, forgetting: float, earlier: Earlier | None) -> Successors:
    if library is None:
        return Successors(most, forgetting, earlier)
    return CompiledSuccessors(library, most, forgetting, earlier if isinstance(earlier, Frozen) else None)


def pair_key(before: int, last: int) -> int:
    """Two tokens as one number."""
    return before << TOKEN_BITS | last


def last_of(key: int) -> int:
    """The last token of a `pair_key`."""
    return key & ((1 << TOKEN_BITS) - 1)


def _hash(contexts: Sequence[tuple[int | None, int]], tokens: np.ndarray) -> int:
    before = array("q")
    for first, last in contexts:
        before.append(-1 if first is None else first)
        before.append(last)
    digest = blake2b(before.tobytes() + tokens.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
