"""The suffix automaton against brute force over all substrings."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafters.counted import lines_run
from outrider.drafters.suffix import automaton as automaton_module
from outrider.drafters.suffix.automaton import COUNTED_LINKS, ROOT_STATE, Cursor, SuffixAutomaton
from outrider.errors import InputError, SettingError

BOUNDARY = None
EMPTY = Cursor(ROOT_STATE, 0)

# No match in them is as long as COUNTED_LINKS, so that all counts are exact.
texts = st.lists(st.integers(0, 2), min_size=1, max_size=COUNTED_LINKS)
documents = st.lists(st.one_of(st.integers(0, 1), st.just(BOUNDARY)), min_size=1, max_size=COUNTED_LINKS)


def build(text, **arguments):
    automaton = SuffixAutomaton(**arguments)
    add(automaton, text)
    return automaton


def add(automaton, text):
    for token in text:
        if token is BOUNDARY:
            automaton.append_boundary()
        else:
            automaton.append(token)


def walk(automaton, substring):
    cursor = EMPTY
    for token in substring:
        cursor = cursor and automaton.step(cursor, token)
    return cursor


def ends_of(text, substring):
    """The places right behind the occurrences of `substring`."""
    size = len(substring)
    return [end for end in range(size, len(text) + 1) if text[end - size : end] == substring]


def substrings(text):
    """All that hold no boundary, each once; the empty one is not among them."""
    found = set()
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if text[end - 1] is BOUNDARY:
                break
            found.add(tuple(text[start:end]))
    return [list(substring) for substring in found]


def longest_repeated_suffix(text):
    for length in range(len(text) - 1, 0, -1):
        suffix = text[-length:]
        if BOUNDARY not in suffix and any(end < len(text) for end in ends_of(text, suffix)):
            return length
    return 0


def followers(text, substring):
    """The tokens that followed, with how often: the most frequent first, then the most recent."""
    counts, recent = {}, {}
    for end in ends_of(text, substring):
        if end < len(text) and text[end] is not BOUNDARY:
            counts[text[end]] = counts.get(text[end], 0) + 1
            recent[text[end]] = end
    return sorted(counts.items(), key=lambda pair: (pair[1], recent[pair[0]]), reverse=True)


def assert_match_is_right(automaton, text):
    length = longest_repeated_suffix(text)
    suffix = text[len(text) - length :]
    assert automaton.match == walk(automaton, suffix)
    assert automaton.match.length == length


@given(texts)
@settings(max_examples=300, deadline=None)
def test_the_match_is_the_longest_suffix_that_ends_earlier_too(text):
    automaton = SuffixAutomaton()
    for end, token in enumerate(text, start=1):
        automaton.append(token)
        assert_match_is_right(automaton, text[:end])


@given(documents)
@settings(max_examples=300, deadline=None)
def test_no_match_and_no_continuation_reaches_across_a_boundary(text):
    automaton = SuffixAutomaton()
    for end, token in enumerate(text, start=1):
        add(automaton, [token])
        assert_match_is_right(automaton, text[:end])
    for substring in substrings(text):
        assert automaton.continuations(walk(automaton, substring)) == followers(text, substring)


@given(texts)
@settings(max_examples=300, deadline=None)
def test_continuations_of_the_match_are_counted_and_ordered_at_every_place(text):
    automaton = SuffixAutomaton()
    for end, token in enumerate(text, start=1):
        automaton.append(token)
        suffix = text[end - automaton.match.length : end]
        assert automaton.continuations(automaton.match) == followers(text[:end], suffix)


@given(texts)
@settings(max_examples=100, deadline=None)
def test_continuations_of_every_substring_are_counted_and_ordered(text):
    automaton = build(text)
    for substring in [[], *substrings(text)]:
        assert automaton.continuations(walk(automaton, substring)) == followers(text, substring)


@given(texts)
@settings(max_examples=100, deadline=None)
def test_every_substring_can_be_walked_to_and_no_other(text):
    automaton = build(text)
    present = [[], *substrings(text)]
    for substring in present:
        cursor = walk(automaton, substring)
        assert cursor.length == len(substring)
        for token in range(4):
            longer = [*substring, token]
            assert (automaton.step(cursor, token) is not None) == (longer in present)


@given(texts)
@settings(max_examples=100, deadline=None)
def test_shorter_is_the_longest_suffix_with_more_places(text):
    automaton = build(text)
    for substring in substrings(text):
        suffixes = [substring[start:] for start in range(1, len(substring) + 1)]
        places = len(ends_of(text, substring))
        expected = next(suffix for suffix in suffixes if not suffix or len(ends_of(text, suffix)) > places)
        assert automaton.shorter(walk(automaton, substring)) == walk(automaton, expected)
    assert automaton.shorter(EMPTY) is None


def test_reading_ahead_leaves_the_automaton_as_it_was():
    automaton = build([1, 2, 3, 4, 1, 2])
    match, states = automaton.match, automaton.states
    cursor = match
    drafted = []
    while following := automaton.continuations(cursor):
        drafted.append(following[0][0])
        cursor = automaton.step(cursor, drafted[-1])
    assert drafted == [3, 4, 1, 2]
    assert cursor.length == match.length + len(drafted)
    assert (automaton.match, automaton.states) == (match, states)


def test_a_predicted_text_is_continued_by_the_output_that_follows_it():
    predicted, prompt = [5, 6, 7, 8], [1, 2, 3]
    automaton = build([*predicted, BOUNDARY, *prompt])
    assert automaton.match == EMPTY
    automaton.extend([5, 6])
    assert automaton.continuations(automaton.match) == [(7, 1)]


def test_an_automaton_without_text_has_an_empty_match():
    automaton = SuffixAutomaton()
    assert len(automaton) == 0
    assert automaton.match == EMPTY
    assert automaton.continuations(EMPTY) == []
    assert automaton.shorter(EMPTY) is None


@given(documents.map(lambda text: text * 4), st.integers(2, 31))
@settings(max_examples=100, deadline=None)
def test_beyond_max_tokens_the_newest_text_is_kept_and_nothing_else(text, max_tokens):
    automaton = SuffixAutomaton(max_tokens=max_tokens)
    for end, token in enumerate(text, start=1):
        add(automaton, [token])
        assert min(end, max_tokens // 2) <= len(automaton) <= max_tokens
        kept = text[end - len(automaton) : end]
        assert_match_is_right(automaton, kept)
    for substring in [[], *substrings(kept)]:
        assert automaton.continuations(walk(automaton, substring)) == followers(kept, substring)


def test_memory_stays_bounded_in_a_long_run():
    generator = random.Random(0)
    automaton = SuffixAutomaton(max_tokens=64)
    for _ in range(5000):
        automaton.append(generator.randrange(3))
        assert len(automaton) <= 64
        assert automaton.states <= 2 * 64


def test_a_match_longer_than_what_remains_is_clipped():
    automaton = build([0] * 64, max_tokens=64)
    assert automaton.match.length == 63
    automaton.append(0)
    assert len(automaton) == 33
    assert automaton.match.length == 32


def fibonacci_word(length):
    shorter, word = [0], [0, 1]
    while len(word) < length:
        shorter, word = word, word + shorter
    return word[:length]


def random_text(length, vocabulary):
    generator = random.Random(0)
    return [generator.randrange(vocabulary) for _ in range(length)]


LONG = 4000
COUNTED_STEPS = 600  # tokens of which every line that is run is counted, which takes its time
LONG_TEXTS = {
    "constant": [0] * LONG,
    "alternating": [0, 1] * (LONG // 2),
    "periodic": [index % 97 for index in range(LONG)],
    "all different": list(range(LONG)),
    "fibonacci": fibonacci_word(LONG),
    "one, then twos": [1] + [2] * (LONG - 1),  # the most states
    "one, twos, three": [1] + [2] * (LONG - 2) + [3],  # the most transitions
    "random of two": random_text(LONG, 2),
    "random of many": random_text(LONG, 50_000),
}


def transitions_of(automaton) -> int:
    """All that lead from one state to another."""
    seen, found, count = {ROOT_STATE}, [Cursor(ROOT_STATE, 0)], 0
    while found:
        cursor = found.pop()
        for token, _ in automaton.continuations(cursor):
            count += 1
            longer = automaton.step(cursor, token)
            if longer.state not in seen:
                seen.add(longer.state)
                found.append(longer)
    return count


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS.keys())
def test_states_transitions_and_steps_grow_linearly(text):
    automaton = build(text)
    assert automaton.states <= 2 * len(text)
    assert transitions_of(automaton) <= 3 * len(text)
    steps = lines_run(lambda: build(text[:COUNTED_STEPS]), automaton_module.__file__)
    # Five lines for each link of the counting walk, of which there are COUNTED_LINKS at most; for the rest some dozens.
    assert steps <= (5 * COUNTED_LINKS + 70) * COUNTED_STEPS


@pytest.mark.parametrize(
    "name, match",
    [("constant", LONG - 1), ("alternating", LONG - 2), ("periodic", LONG - 97), ("all different", 0)],
)
def test_the_match_of_a_periodic_text_is_all_but_one_period(name, match):
    assert build(LONG_TEXTS[name]).match.length == match


@given(st.lists(st.integers(0, 1), min_size=1, max_size=4), st.integers(20, 60))
@settings(max_examples=100, deadline=None)
def test_a_clipped_count_is_too_low_never_too_high(period, repetitions):
    text = period * repetitions
    automaton = build(text)
    for size in (0, 1, 2, 5, 40):
        substring = text[:size]
        exact = dict(followers(text, substring))
        found = dict(automaton.continuations(walk(automaton, substring)))
        assert found.keys() == exact.keys()
        assert all(1 <= found[token] <= exact[token] for token in exact)


def test_the_counting_walk_is_clipped_where_the_documentation_says():
    # In a constant text each place reaches the COUNTED_LINKS longest of its suffixes.
    for length in (COUNTED_LINKS, COUNTED_LINKS + 1, 3 * COUNTED_LINKS):
        automaton = build([0] * length)
        assert automaton.continuations(EMPTY) == [(0, min(length, COUNTED_LINKS))]


def test_of_equal_counts_the_most_recent_comes_first():
    automaton = build([9, 1, 8, 9, 2, 7, 9])
    assert automaton.continuations(automaton.match) == [(2, 1), (1, 1)]


@pytest.mark.parametrize("max_tokens", [1, 0, -5])
def test_a_bound_too_small_to_halve_is_refused(max_tokens):
    with pytest.raises(SettingError, match=f"max_tokens is {max_tokens}: it must be at least 2"):
        SuffixAutomaton(max_tokens)


def test_a_negative_token_is_refused_since_it_could_be_taken_for_a_boundary():
    automaton = build([1, BOUNDARY])
    with pytest.raises(InputError, match="token -1 is negative"):
        automaton.append(-1)
    assert len(automaton) == 2
