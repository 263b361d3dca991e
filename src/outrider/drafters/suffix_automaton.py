"""A suffix automaton that grows with the text and always knows its longest repeated suffix.

Online construction: Blumer, Blumer, Haussler, Ehrenfeucht, Chen and Seiferas, "The smallest automaton recognizing the
subwords of a text", Theoretical Computer Science 40, 1985. A state stands for all substrings that end at the same
places; its suffix link leads to the state of the next shorter suffixes, which end at more places.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

ROOT_STATE = 0
NO_STATE = -1
# Occurrences are counted along the suffix links of the newest state. A text that repeats itself has long chains of
# them; the bound keeps a token's cost constant, and clips the counts of short, very frequent contexts.
COUNTED_LINKS = 32


@dataclass(frozen=True, slots=True)
class Cursor:
    """A substring of the text: the state that stands for it, and its length in tokens."""

    state: int
    length: int


class SuffixAutomaton:
    """All substrings of a text, at a cost per appended token that is constant on average.

    After each `append`, `match` is the longest suffix of the text that also ends at an earlier place.

    Args:
        max_tokens: when the text grows beyond it, the older half is forgotten. It holds at most 2 states per token.
    """

    def __init__(self, max_tokens: int = 32_768) -> None:
        if max_tokens < 2:
            raise ValueError(f"max_tokens is {max_tokens}: it must be at least 2")
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
    def match(self) -> Cursor:
        """The longest suffix of the text that also ends at an earlier place; of length 0 where there is none."""
        return Cursor(self._match_state, self._match_length)

    def extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.append(token)

    def append_boundary(self) -> None:
        """End a document: no match reaches across."""
        # A token that never comes again; token ids are not negative.
        self._boundaries += 1
        self.append(-self._boundaries)

    def append(self, token: int) -> None:
        """Add the next token of the text."""
        if len(self._text) >= self.max_tokens:
            self._forget_older_half()
        self._text.append(token)
        self._advance_match(token)
        self._add_state(token)
        # The new state may have split the match's state: the match belongs to the part with the shorter strings.
        while self._length[self._link[self._match_state]] >= self._match_length > 0:
            self._match_state = self._link[self._match_state]
        self._count_occurrence()

    def step(self, cursor: Cursor, token: int) -> Cursor | None:
        """The substring one token longer; None where the text does not have it."""
        state = self._next[cursor.state].get(token)
        return None if state is None else Cursor(state, cursor.length + 1)

    def shorter(self, cursor: Cursor) -> Cursor | None:
        """The longest proper suffix of the substring that ends at more places; None at the empty one."""
        link = self._link[cursor.state]
        return None if cursor.state == ROOT_STATE else Cursor(link, self._length[link])

    def continuations(self, cursor: Cursor) -> list[tuple[int, int]]:
        """The tokens that followed the substring, with how often, the most frequent first, then the most recent.

        A count is exact unless the walk of COUNTED_LINKS was too short to reach its state, as happens to short
        substrings of a text that repeats itself; then it is too low, and at least 1.
        """
        followed = [(token, state) for token, state in self._next[cursor.state].items() if token >= 0]
        if len(followed) > 1:
            count, recent = self._count, self._recent
            followed.sort(key=lambda pair: (count[pair[1]], recent[pair[1]]), reverse=True)
        return [(token, self._count[state]) for token, state in followed]

    def _clear(self) -> None:
        self._text: list[int] = []
        # One entry per state: its transitions, suffix link, longest string, occurrences and newest end.
        self._next: list[dict[int, int]] = [{}]
        self._link: list[int] = [NO_STATE]
        self._length: list[int] = [0]
        self._count: list[int] = [0]
        self._recent: list[int] = [0]
        self._last = ROOT_STATE
        self._match_state = ROOT_STATE
        self._match_length = 0

    def _forget_older_half(self) -> None:
        newest = self._text[len(self._text) - self.max_tokens // 2 :]
        self._clear()
        self.extend(newest)

    def _advance_match(self, token: int) -> None:
        # Before the token is added, the automaton knows exactly the substrings that end before it.
        state, length = self._match_state, self._match_length
        while state != ROOT_STATE and token not in self._next[state]:
            state = self._link[state]
            length = self._length[state]
        following = self._next[state].get(token)
        if following is None:
            self._match_state, self._match_length = ROOT_STATE, 0
        else:
            self._match_state, self._match_length = following, length + 1

    def _add_state(self, token: int) -> None:
        new = self._new_state({}, self._length[self._last] + 1, 0)
        state = self._last
        while state != NO_STATE and token not in self._next[state]:
            self._next[state][token] = new
            state = self._link[state]
        if state == NO_STATE:
            self._link[new] = ROOT_STATE
        else:
            following = self._next[state][token]
            if self._length[following] == self._length[state] + 1:
                self._link[new] = following
            else:
                self._link[new] = self._split(state, token, following)
        self._last = new

    def _split(self, state: int, token: int, following: int) -> int:
        """Part the shorter strings of `following` from it, since they now end at one more place."""
        clone = self._new_state(dict(self._next[following]), self._length[state] + 1, self._count[following])
        self._recent[clone] = self._recent[following]
        self._link[clone] = self._link[following]
        self._link[following] = clone
        while state != NO_STATE and self._next[state].get(token) == following:
            self._next[state][token] = clone
            state = self._link[state]
        return clone

    def _new_state(self, following: dict[int, int], length: int, count: int) -> int:
        self._next.append(following)
        self._link.append(ROOT_STATE)
        self._length.append(length)
        self._count.append(count)
        self._recent.append(0)
        return len(self._link) - 1

    def _count_occurrence(self) -> None:
        state = self._last
        end = len(self._text)
        for _ in range(COUNTED_LINKS):
            if state == ROOT_STATE:
                return
            self._count[state] += 1
            self._recent[state] = end
            state = self._link[state]
