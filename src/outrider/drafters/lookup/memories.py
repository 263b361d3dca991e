"""Texts of earlier requests, as a source of lookups."""

from __future__ import annotations

from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.lookup.source import Context, Foresight, Source
from outrider.drafters.lookup.suffixes import after_match
from outrider.drafters.suffix.memory import WIDEST, Follower, SuffixMemory


class MemorySource(Source):
    """What followed the end of the text in earlier texts (suffix decoding, arXiv 2411.04975).

    The output of each text that ends is added to the memory, with its prompt if the memory is to hold prompts.

    Args:
        memory: several drafters, in any threads, may share one.
    """

    name = "memory"

    def __init__(self, memory: SuffixMemory | None = None) -> None:
        self.memory = SuffixMemory() if memory is None else memory
        self.lock = self.memory.lock
        self._followers: dict[int, tuple[Follower, int]] = {}  # with how many tokens each has read

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.memory})"

    def join(self, lookups: Any) -> bool:
        if self.memory.library is not None:
            lookups.add_matches(WIDEST)
        return self.memory.library is not None

    def prepare(self, vocab_size: int) -> None:
        self._followers = {}

    def experience(self, sequence: DraftedSequence) -> tuple[int, ...]:
        return self.memory.experience

    def begin(self, sequence: DraftedSequence) -> Any:
        # Out of the table while it reads: after an interrupt it would read the same tokens again.
        known = self._followers.pop(sequence.id, None)
        follower, read = (self.memory.follow(), 0) if known is None else known
        follower.extend(sequence.tokens[read:])
        self._followers[sequence.id] = follower, len(sequence.tokens)
        matches = follower.cursors()
        return matches[0] if matches else None

    def foresee(self, cursor: Any, context: Context) -> Foresight | None:
        if cursor is None:
            return None
        automaton, match = cursor
        return after_match(automaton, match, WIDEST)

    def forget(self, sequence: DraftedSequence) -> None:
        self._followers.pop(sequence.id, None)
        output = sequence.history.tokens
        if output:
            self.memory.add(sequence.tokens if self.memory.prompts else output)
