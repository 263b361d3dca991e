"""The texts of earlier requests in one bounded structure, for later requests to copy from.

Suffix decoding (arXiv 2411.04975) keeps a suffix tree of earlier outputs beside that of the text itself. Here a few
automata of equal size, the *generations*, stand side by side. Documents join the newest one. When it is full it is
closed, a new one is opened, and the oldest is dropped whole. So nothing is ever removed from an automaton, and a token
costs a constant time on average.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

from outrider.drafters.experience import experience_with
from outrider.drafters.suffix.automaton import Cursor, SuffixAutomaton, new_automaton
from outrider.errors import InputError
from outrider.runtimes.native.library import drafting
from outrider.values import require_flag, whole

GENERATIONS = 4
SMALLEST = 4 * GENERATIONS  # tokens
# How many of a sequence's newest tokens are read again when documents were added: a match that only these make possible
# is found up to this length, which is as good for drafting as a longer one.
READ_AGAIN = 64
# A match that so many different tokens followed predicts little, and takes long to search.
WIDEST = 64


@dataclass(slots=True)
class Generation:
    """Some documents and the automaton over them.

    Attributes:
        number: tells generations of one memory apart.
    """

    number: int
    automaton: SuffixAutomaton
    documents: list[array[int]] = field(default_factory=list)


class SuffixMemory:
    """Documents that drafters copy from, shared by all requests of one or several engines, in any threads.

    Args:
        max_tokens: the most that it holds, with a boundary for each document. The newest half stays at least; of a
            document longer than a quarter only the end is kept. A token takes about 450 bytes.
        prompts: whether drafters add prompts together with outputs; otherwise outputs alone.

    Attributes:
        lock: held while documents are added. Hold it while you use cursors.
        added: how many documents were ever added.
        generations: oldest first.
        library: the compiled library, where it holds the automata; else None.

    Raises:
        SettingError: max_tokens is too small.
    """

    def __init__(self, max_tokens: int = 131_072, *, prompts: bool = False) -> None:
        self.max_tokens = max_tokens = whole("max_tokens", max_tokens, SMALLEST)
        require_flag("prompts", prompts)
        self.prompts = prompts
        self.lock = RLock()
        self.library = drafting()
        self._room = max_tokens // GENERATIONS
        self._opened = 0
        self._experience = 0
        self.added = 0
        self.generations: deque[Generation] = deque(maxlen=GENERATIONS)

    @classmethod
    def of(
        cls, documents: Iterable[Sequence[int]], max_tokens: int = 131_072, *, prompts: bool = False
    ) -> SuffixMemory:
        """A memory of these documents, oldest first."""
        memory = cls(max_tokens, prompts=prompts)
        for document in documents:
            memory.add(document)
        return memory

    def __repr__(self) -> str:
        return f"SuffixMemory({len(self)} of {self.max_tokens} tokens, {len(self.documents())} documents)"

    def __len__(self) -> int:
        """How many tokens it holds, boundaries included."""
        with self.lock:
            return sum(len(generation.automaton) for generation in self.generations)

    def __reduce__(self) -> tuple[Any, ...]:
        with self.lock:
            return _restored, (self.documents(), self.max_tokens, self.prompts, self._experience)

    @property
    def experience(self) -> tuple[int, ...]:
        """A hash of all that was ever added; empty at the beginning. `Draft.experience` says what it is for."""
        return (self._experience,) if self.added else ()

    def documents(self) -> list[list[int]]:
        """All that it holds, oldest first."""
        with self.lock:
            return [list(document) for generation in self.generations for document in generation.documents]

    def add(self, tokens: Sequence[int]) -> None:
        """Add a document. No match reaches from one into the next.

        Raises:
            InputError: a token is negative.
        """
        if not len(tokens):
            return
        document = array("q", tokens)
        if min(document) < 0:
            raise InputError(f"token {min(document)} is negative: token ids start at 0")
        kept = document[-(self._room - 1) :]
        with self.lock:
            generation = self._with_room_for(len(kept) + 1)
            generation.automaton.extend(kept)
            generation.automaton.append_boundary()
            generation.documents.append(kept)
            self.added += 1
            self._experience = experience_with(self._experience, document)

    def follow(self) -> Follower:
        """The matches of a sequence that is yet to be read."""
        return Follower(self)

    def _with_room_for(self, tokens: int) -> Generation:
        """The newest generation; a new one where that is full."""
        if not self.generations or len(self.generations[-1].automaton) + tokens > self._room:
            self._opened += 1
            # A full deque drops its oldest item.
            self.generations.append(Generation(self._opened, new_automaton(self.library, self._room)))
        return self.generations[-1]


class Follower:
    """For each generation of a memory the longest suffix of one sequence that occurs in it.

    After documents were added, a match that was impossible before is found up to a length of READ_AGAIN tokens. It
    grows from there with the sequence.
    """

    def __init__(self, memory: SuffixMemory) -> None:
        self._memory = memory
        self._tail: deque[int] = deque(maxlen=READ_AGAIN)
        self._matches: list[_Match] = []  # one for each generation, oldest first
        self._read = 0  # how many documents had been added when the matches were found

    def extend(self, tokens: Sequence[int]) -> None:
        """The sequence goes on with these tokens. Constant on average for each token and generation."""
        with self._memory.lock:
            for match in self._up_to_date():
                match.cursor = match.automaton.follow(match.cursor, tokens)
        self._tail.extend(tokens)

    def cursors(self) -> list[tuple[SuffixAutomaton, Cursor]]:
        """The matches, longest first, and of equal ones the newest; those that more than WIDEST tokens followed are
        left out.

        They are valid while the memory's lock is held.
        """
        with self._memory.lock:
            found = [
                (match.automaton, match.cursor)
                for match in reversed(self._up_to_date())
                if match.cursor.length and match.automaton.width(match.cursor) <= WIDEST
            ]
        return sorted(found, key=lambda pair: -pair[1].length)

    def _up_to_date(self) -> list[_Match]:
        """The matches in the generations that there are now."""
        if self._read != self._memory.added:
            known = {match.generation: match for match in self._matches}
            self._matches = [self._match_in(each, known) for each in self._memory.generations]
            self._read = self._memory.added
        return self._matches

    def _match_in(self, generation: Generation, known: dict[int, _Match]) -> _Match:
        match = known.get(generation.number)
        automaton = generation.automaton
        if match is not None and match.read == len(automaton):
            return match
        cursor = automaton.follow(automaton.nothing, self._tail)
        if match is not None:
            held = automaton.follow(match.cursor, ())
            cursor = held if held.length >= cursor.length else cursor
        return _Match(generation.number, automaton, cursor, len(automaton))


@dataclass(slots=True)
class _Match:
    """The longest match in one generation.

    Attributes:
        generation: its number.
        read: how long its automaton was when the match was found.
    """

    generation: int
    automaton: SuffixAutomaton
    cursor: Cursor
    read: int


def _restored(documents: list[list[int]], max_tokens: int, prompts: bool, experience: int) -> SuffixMemory:
    memory = SuffixMemory.of(documents, max_tokens, prompts=prompts)
    memory._experience = experience
    return memory
