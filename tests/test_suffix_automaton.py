"""The suffix automaton against brute force over all substrings."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.drafters.suffix_automaton import COUNTED_LINKS, Cursor, SuffixAutomaton

texts = st.lists(st.integers(0, 2), min_size=1, max_size=40)
BOUNDARY = None


def build(text, **arguments):
    automaton = SuffixAutomaton(**arguments)
    for token in text:
        if token is BOUNDARY:
            automaton.append_boundary()
        else:
            automaton.append(token)
    return automaton


def ends_of(text, substring):
    """The places right behind the occurrences of `substring`; a boundary matches nothing, not even another."""
    size = len(substring)
    return [end for end in range(size, len(text) + 1) if text[end - size : end] == substring]


def longest_repeated_suffix(text):
    for length in range(len(text) - 1, 0, -1):
        suffix = text[-length:]
        if BOUNDARY not in suffix and any(end < len(text) for end in ends_of(text, suffix)):
            return length
    return 0


def followers(text, substring):
    return Counter(
        text[end] for end in ends_of(text, substring) if end < len(text) and text[end] is not BOUNDARY
    )


@given(texts)
@settings(max_examples=300, deadline=None)
def test_the_match_is_the_longest_suffix_that_ends_earlier_too(text):
    automaton = SuffixAutomaton()
    for end, token in enumerate(text, start=1):
        automaton.append(token)
        assert automaton.match.length == longest_repeated_suffix(text[:end])


@given(st.lists(st.one_of(st.integers(0, 1), st.just(BOUNDARY)), min_size=1, max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_match_reaches_across_a_boundary(text):
    assert build(text).match.length == longest_repeated_suffix(text)


@given(texts)
@settings(max_examples=300, deadline=None)
def test_continuations_are_counted_and_ordered(text):
    automaton = build(text)
    length = automaton.match.length
    if length:
        found = automaton.continuations(automaton.match)
        assert dict(found) == followers(text, text[-length:])
        assert [count for _, count in found] == sorted((count for _, count in found), reverse=True)


@given(texts)
@settings(max_examples=100, deadline=None)
def test_every_substring_can_be_walked_to_and_no_other(text):
    automaton = build(text)
    for start in range(len(text)):
        cursor = Cursor(0, 0)
        for end in range(start, len(text)):
            cursor = automaton.step(cursor, text[end])
            assert cursor is not None
            assert cursor.length == end - start + 1
        for token in range(3):
            substring = text[start:] + [token]
            assert (automaton.step(cursor, token) is not None) == bool(ends_of(text, substring))


@given(texts)
@settings(max_examples=200, deadline=None)
def test_shorter_is_the_longest_suffix_with_more_places(text):
    automaton = build(text)
    cursor = automaton.match
    while cursor.length:
        string = text[-cursor.length :]
        shorter = automaton.shorter(cursor)
        expected = next(
            length
            for length in range(cursor.length - 1, -1, -1)
            if len(ends_of(text, string[len(string) - length :])) > len(ends_of(text, string))
        )
        assert shorter.length == expected
        cursor = shorter
    assert automaton.shorter(cursor) is None


@given(st.lists(st.integers(0, 1), min_size=1, max_size=300), st.integers(2, 40))
@settings(max_examples=100, deadline=None)
def test_memory_is_bounded_and_the_newest_text_is_kept(text, bound):
    automaton = build(text, max_tokens=bound)
    assert len(automaton) <= bound
    assert automaton.states <= 2 * bound
    kept = text[-len(automaton) :]
    assert automaton.match.length == longest_repeated_suffix(kept)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ([0] * 3000, 2999),
        ([0, 1] * 1500, 2998),
        ([i % 97 for i in range(3000)], 2903),
        (list(range(3000)), 0),
    ],
    ids=["constant", "alternating", "periodic", "all different"],
)
def test_states_and_transitions_grow_linearly(text, match):
    automaton = build(text)
    assert automaton.states <= 2 * len(text)
    assert sum(len(following) for following in automaton._next) <= 3 * len(text)
    assert automaton.match.length == match


def test_a_clipped_count_is_too_low_never_too_high():
    text = [0] * (3 * COUNTED_LINKS)
    automaton = build(text)
    single = automaton.step(Cursor(0, 0), 0)
    [(token, count)] = automaton.continuations(single)
    assert token == 0
    assert 1 <= count < followers(text, [0])[0]


def test_of_equal_counts_the_most_recent_comes_first():
    automaton = build([9, 1, 8, 9, 2, 7, 9])
    assert automaton.continuations(automaton.match) == [(2, 1), (1, 1)]
