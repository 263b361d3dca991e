"""A suffix automaton that grows with the text and always knows its longest repeated suffix.

Online construction: Blumer, Blumer, Haussler, Ehrenfeucht, Chen and Seiferas, "The smallest automaton
recognizing the subwords of a text", Theoretical Computer Science 40, 1985. A state stands for all
substrings that end at the same positions; its suffix link leads to the state of the next shorter suffixes,
which end at more positions.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from outrider.errors import InputError, SettingError

ROOT_STATE = 0
NO_STATE = -1
# Occurrences are counted along the suffix links of the newest state. A text that repeats itself has long
# chains of them; the bound keeps a token's cost constant, and clips the counts of short, frequent contexts.
COUNTED_LINKS = 32


class Cursor(NamedTuple):
    """A substring of the text: the state that stands for it, and its length in tokens.

    It is valid until the next token is appended, which may split the state or forget the older text.
    """

    state: int
    length: int


EMPTY_MATCH = Cursor(ROOT_STATE, 0)


class SuffixAutomaton:
    """All substrings of a text, at a cost per appended token that is constant on average.

    Each token counts an occurrence of the first COUNTED_LINKS states on its chain of suffix links. All
    counts are exact as long as every match was shorter than COUNTED_LINKS tokens, since a chain has at most
    one state more than the match has tokens. After a longer match, the count of a substring is still exact
    if at each of its occurrences fewer than COUNTED_LINKS states came before its own on the chain; otherwise
    it is a lower bound, at least 1. Missed are the shortest contexts of a long match. Recency is clipped in
    the same way.

    Args:
        max_tokens: when the text would grow beyond it, all but its newest half is forgotten and the automaton
            rebuilt: constant on average, but that one append takes as long as max_tokens / 2 others. There
            are at most 2 states per token.

    Raises:
        SettingError: max_tokens is below 2.
    """

    def __init__(self, max_tokens: int = 65_536) -> None:
        if max_tokens < 2:
            raise SettingError(f"max_tokens is {max_tokens}: it must be at least 2")
        self.max_tokens = max_tokens
        self._boundaries = 0
        self._clear()

    def __len__(self) -> int:
        """How many tokens it holds, boundaries included."""
        return len(self._text)

    @property
    def states(self) -> int:
        return len(self._link)

    @property
    def nothing(self) -> Cursor:
        """The empty substring."""
        return EMPTY_MATCH

    @property
    def match(self) -> Cursor:
        """The longest suffix of the text that also ends at an earlier position; empty where there is none."""
        # The newest state stands for the suffixes that end nowhere else; its link for the longest one that
        # does. Taken from the link, the match needs no repair when a state is split.
        state = max(self._link[self._newest], ROOT_STATE)
        return Cursor(state, self._length[state])

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.append(token)

    def append_boundary(self) -> None:
        """End a document: no match reaches across, and the next one starts empty."""
        # A token that never comes again: token ids are not negative.
        self._boundaries += 1
        self._add(-self._boundaries)

    def append(self, token: int) -> None:
        """Add the next token of the text.

        Raises:
            InputError: the token is negative.
        """
        if token < 0:
            raise InputError(f"token {token} is negative: token ids start at 0")
        self._add(token)

    def step(self, cursor: Cursor, token: int) -> Cursor | None:
        """The substring one token longer; None where the text does not have it."""
        state = self._next[cursor.state].get(token)
        return None if state is None else Cursor(state, cursor.length + 1)

    def follow(self, cursor: Cursor, tokens: Iterable[int]) -> Cursor:
        """The longest suffix of the substring and these tokens that occurs in the text (matching statistics).

        Constant on average for each token. Unlike elsewhere, the cursor may be older than the newest tokens, as long
        as nothing was forgotten since.
        """
        transitions, links, lengths = self._next, self._link, self._length
        state, length = cursor.state, cursor.length
        # A split since then moved the shorter strings of the state to its link.
        while state != ROOT_STATE and length <= lengths[links[state]]:
            state = links[state]
        for token in tokens:
            following = transitions[state].get(token)
            while following is None and state != ROOT_STATE:
                state = links[state]
                length = lengths[state]
                following = transitions[state].get(token)
            if following is not None:
                state = following
                length += 1
        return Cursor(state, length)

    def continued(self, match: Cursor) -> tuple[Cursor, list[tuple[int, int]]]:
        """The longest suffix of the match that has a continuation, and its continuations.

        Mostly that is the match; one that ended where a document ended has none, but a shorter suffix may.
        """
        cursor: Cursor | None = match
        while cursor is not None and cursor.length > 0:
            followed = self.continuations(cursor)
            if followed:
                return cursor, followed
            cursor = self.shorter(cursor)
        return EMPTY_MATCH, []

    def shorter(self, cursor: Cursor) -> Cursor | None:
        """The longest proper suffix of the substring that ends at more positions; None at the empty one."""
        if cursor.state == ROOT_STATE:
            return None
        link = self._link[cursor.state]
        return Cursor(link, self._length[link])

    def width(self, cursor: Cursor) -> int:
        """How many different tokens followed the substring; the ends of documents count as one each."""
        return len(self._next[cursor.state])

    def continuations(self, cursor: Cursor) -> list[tuple[int, int]]:
        """The tokens that followed the substring, with how often; the most frequent first, then the newest.

        The occurrence at the very end of the text has no follower and is not counted. See the class for when
        a count is exact. No two tokens are equally recent, since each position holds one.
        """
        count = self._count
        return [(token, count[state]) for token, state in self._followed(cursor.state)]

    def followers(self, cursor: Cursor) -> list[tuple[int, int, Cursor]]:
        """As `continuations`, each with the substring that is longer by the token."""
        count, length = self._count, cursor.length + 1
        return [(token, count[state], Cursor(state, length)) for token, state in self._followed(cursor.state)]

    def _followed(self, state: int) -> list[tuple[int, int]]:
        """The tokens that followed, in the order of `continuations`, and the states that they lead to."""
        # A token followed the substring as often as the two occurred together: the count of the successor.
        followed = [pair for pair in self._next[state].items() if pair[0] >= 0]
        if len(followed) > 1:
            count, recent = self._count, self._recent
            followed.sort(key=lambda pair: (count[pair[1]], recent[pair[1]]), reverse=True)
        return followed

    def _clear(self) -> None:
        self._text = array("q")
        # One entry per state: its transitions, suffix link, longest string, occurrences and newest end. An
        # array takes less memory, but Python reads lists faster: lists where the walks along states read.
        self._next: list[dict[int, int]] = [{}]
        self._link = [NO_STATE]
        self._length = array("i", [0])
        self._count = [0]
        self._recent = [0]
        self._newest = ROOT_STATE

    def _add(self, token: int) -> None:
        if len(self._text) >= self.max_tokens:
            self._forget_older_half()
        self._text.append(token)
        self._add_state(token)
        self._count_occurrence()

    def _forget_older_half(self) -> None:
        kept = self._text[len(self._text) - self.max_tokens // 2 :]
        self._clear()
        for token in kept:
            self._add(token)

    def _add_state(self, token: int) -> None:
        transitions, links = self._next, self._link
        state = self._newest
        new = self._new_state({}, length=self._length[state] + 1, count=0)
        while state != NO_STATE and token not in transitions[state]:
            transitions[state][token] = new
            state = links[state]
        if state != NO_STATE:
            following = transitions[state][token]
            if self._length[following] != self._length[state] + 1:
                following = self._split(state, token, following)
            links[new] = following
        self._newest = new

    def _split(self, state: int, token: int, following: int) -> int:
        """Split the shorter strings of `following` off, since they now end at one more position."""
        transitions, links = self._next, self._link
        shorter = self._new_state(
            transitions[following].copy(), length=self._length[state] + 1, count=self._count[following]
        )
        links[shorter] = links[following]
        links[following] = shorter
        while state != NO_STATE and transitions[state].get(token) == following:
            transitions[state][token] = shorter
            state = links[state]
        return shorter

    def _new_state(self, transitions: dict[int, int], length: int, count: int) -> int:
        self._next.append(transitions)
        self._link.append(ROOT_STATE)
        self._length.append(length)
        self._count.append(count)
        self._recent.append(0)  # until the occurrence is counted, right after
        return len(self._link) - 1

    def _count_occurrence(self) -> None:
        links, count, recent = self._link, self._count, self._recent
        state, end = self._newest, len(self._text)
        for _ in range(COUNTED_LINKS):
            if state == ROOT_STATE:
                return
            count[state] += 1
            recent[state] = end
            state = links[state]


def new_automaton(library: Any | None, max_tokens: int) -> SuffixAutomaton:
    """An empty automaton; a compiled one, with the same methods and results, where there is a library.

    Raises:
        SettingError: max_tokens is below 2.
    """
    if library is None or max_tokens < 2:
        return SuffixAutomaton(max_tokens)
    compiled: SuffixAutomaton = library.SuffixAutomaton(max_tokens)
    return compiled


def automaton_beside(library: Any | None, document: Sequence[int], max_tokens: int) -> SuffixAutomaton:
    """An automaton for a text that a document, which may be empty, stands beside; arguments as for `new_automaton`."""
    automaton = new_automaton(library, max_tokens)
    if document:
        automaton.extend(document)
        automaton.append_boundary()
    return automaton
