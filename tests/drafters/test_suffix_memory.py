"""The memory of earlier requests finds what brute force finds, stays bounded, and is never torn."""

import pickle
import sys
import threading
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import outrider.drafters.suffix.automaton as automaton_module
from drafters.counted import lines_run
from outrider import (
    Chained,
    Engine,
    InputError,
    LookupDrafter,
    MemorySource,
    Merged,
    ModelDrafter,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    SuffixDrafter,
    SuffixMemory,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.drafters.suffix.automaton import COUNTED_LINKS
from outrider.drafters.suffix.memory import GENERATIONS, READ_AGAIN, WIDEST
from outrider.drafters.suffix.shares import MOST_CHILDREN, foreseen

FOLDER = automaton_module.__file__.rpartition("/")[0]

tokens = st.integers(0, 3)
documents = st.lists(st.lists(tokens, min_size=1, max_size=12), max_size=8)
texts = st.lists(tokens, max_size=20)


def places(held, part):
    """Where `part` ends in the documents: (document, position after it)."""
    return [
        (number, end)
        for number, document in enumerate(held)
        for end in range(len(part), len(document) + 1)
        if document[end - len(part) : end] == part
    ]


def longest(held, text):
    """The length of the longest suffix of the text that occurs in a document."""
    return next(length for length in range(len(text), -1, -1) if places(held, text[len(text) - length :]))


def followers(held, part):
    """What came after `part` in the documents, and how often."""
    found = {}
    for number, end in places(held, part):
        if end < len(held[number]):
            found[held[number][end]] = found.get(held[number][end], 0) + 1
    return found


def assert_right(memory, follower, text):
    """Every cursor is the longest match in its generation, the first one the longest of all, and counts are exact."""
    held = memory.documents()
    with memory.lock:
        cursors = follower.cursors()
        lengths = [cursor.length for _, cursor in cursors]
        assert lengths == sorted(lengths, reverse=True)
        assert (lengths[0] if lengths else 0) == (longest(held, text) if held and text else 0)
        for automaton, cursor in cursors:
            (generation,) = [each for each in memory.generations if each.automaton is automaton]
            own = [list(document) for document in generation.documents]
            assert cursor.length == longest(own, text)
            assert dict(automaton.continuations(cursor)) == followers(own, text[len(text) - cursor.length :])


@given(documents, texts)
@settings(max_examples=200, deadline=None)
def test_the_longest_match_is_found_at_every_place(held, text):
    memory = SuffixMemory.of(held)
    assert memory.documents() == held
    follower = memory.follow()
    for end in range(1, len(text) + 1):
        follower.extend(text[end - 1 : end])
        assert_right(memory, follower, text[:end])


@given(st.lists(st.tuples(st.booleans(), st.lists(tokens, min_size=1, max_size=9)), max_size=20), st.integers(16, 80))
@settings(max_examples=200, deadline=None)
def test_documents_may_come_and_go_while_a_sequence_is_followed(steps, max_tokens):
    memory = SuffixMemory(max_tokens)
    follower, text = memory.follow(), []
    for is_document, part in steps:
        if is_document:
            memory.add(part)
        else:
            follower.extend(part)
            text += part
        assert_right(memory, follower, text)


@given(st.lists(st.lists(tokens, min_size=1, max_size=30), max_size=40), st.integers(16, 120))
@settings(max_examples=200, deadline=None)
def test_the_newest_documents_stay_and_the_bound_holds(added, max_tokens):
    memory = SuffixMemory(max_tokens)
    room = max_tokens // GENERATIONS - 1  # for one document
    for number, document in enumerate(added, start=1):
        memory.add(document)
        held = memory.documents()
        assert len(memory) == sum(len(each) + 1 for each in held) <= max_tokens
        assert held == [each[-room:] for each in added[number - len(held) : number]]
        assert len(held) == number or len(memory) > 2 * (room + 1)


def test_a_match_that_new_documents_make_possible_is_found_up_to_a_bound():
    memory, text = SuffixMemory(), list(range(2 * READ_AGAIN))
    follower = memory.follow()
    follower.extend(text)
    memory.add([*text, 7])
    assert follower.cursors()[0][1].length == READ_AGAIN
    follower.extend([7])
    assert follower.cursors()[0][1].length == READ_AGAIN + 1


def test_a_match_that_is_longer_than_what_is_read_again_stays_when_documents_come():
    text = list(range(2 * READ_AGAIN))
    memory = SuffixMemory.of([text])
    follower = memory.follow()
    follower.extend(text)
    memory.add([*text[5:], 7])  # splits the state of the match
    automaton, cursor = follower.cursors()[0]
    assert cursor.length == len(text)
    assert automaton.continuations(cursor) == []
    assert automaton.continued(cursor)[1] == [(7, 1)]


def test_no_match_reaches_across_documents():
    memory = SuffixMemory.of([[1, 2], [3, 4]])
    follower = memory.follow()
    follower.extend([1, 2, 3])
    assert [cursor.length for _, cursor in follower.cursors()] == [1]


def test_a_match_that_too_many_tokens_followed_is_left_out():
    memory = SuffixMemory.of([[9, token] for token in range(10, 10 + WIDEST)])
    follower = memory.follow()
    follower.extend([9])
    assert len(follower.cursors()) == 1
    memory.add([9, 8])
    assert follower.cursors() == []


def test_empty_documents_are_no_documents_and_a_negative_token_changes_nothing():
    memory = SuffixMemory()
    memory.add([])
    assert (memory.documents(), memory.experience) == ([], ())
    with pytest.raises(InputError, match="token -1 is negative"):
        memory.add([3, -1, 4])
    assert (memory.documents(), memory.experience, len(memory)) == ([], (), 0)


def test_a_memory_too_small_is_refused():
    with pytest.raises(SettingError, match="max_tokens is 15: it must be at least 16"):
        SuffixMemory(15)


@given(documents)
@settings(max_examples=30, deadline=None)
def test_a_copy_by_pickle_holds_the_same_documents_and_knows_what_it_was(added):
    memory = SuffixMemory(40, prompts=True)
    for document in added:
        memory.add(document)
    copy = pickle.loads(pickle.dumps(memory))
    assert copy.documents() == memory.documents()
    assert (copy.max_tokens, copy.prompts, copy.experience) == (40, True, memory.experience)
    copy.add([1])
    memory.add([1])
    assert copy.experience == memory.experience


@given(documents.filter(len), st.lists(tokens, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_every_document_changes_the_experience(added, last):
    memory = SuffixMemory(16)
    seen = {memory.experience}
    for document in [*added, last, last]:
        memory.add(document)
        assert memory.experience not in seen
        seen.add(memory.experience)


@given(documents.filter(len), texts.filter(len))
@settings(max_examples=100, deadline=None)
def test_shares_and_what_is_left_are_probabilities(held, text):
    memory = SuffixMemory.of(held)
    follower = memory.follow()
    follower.extend(text)
    vocabulary = {*chain.from_iterable(held)}
    for automaton, cursor in follower.cursors():
        continuations, unseen = foreseen(automaton, cursor)
        shares = [share for _, share, _ in continuations]
        assert shares == sorted(shares, reverse=True)
        assert len(shares) <= MOST_CHILDREN
        assert sum(shares) + unseen == pytest.approx(1)  # there are no more tokens than MOST_CHILDREN
        for token, _, longer in continuations:
            assert longer == automaton.follow(longer, ())
            assert 1 <= longer.length <= cursor.length + 1
            assert token in vocabulary


def test_shorter_matches_are_left_out_where_they_are_wide_or_little_is_left():
    memory = SuffixMemory.of([[1, 2, 3], [2, 4], [2, 5]])
    follower = memory.follow()
    follower.extend([1, 2])
    ((automaton, cursor),) = follower.cursors()
    assert [token for token, _, _ in foreseen(automaton, cursor).continuations] == [3, 5, 4]
    assert [token for token, _, _ in foreseen(automaton, cursor, widest=2).continuations] == [3]
    assert [token for token, _, _ in foreseen(automaton, cursor, least=0.9).continuations] == [3]


@pytest.mark.parametrize("max_tokens", [400, 100_000], ids=["full", "with room"])
def test_a_token_costs_as_much_in_a_full_memory_as_in_an_empty_one(max_tokens):
    def document(number, size=50):
        return [(number * 7919 + place * place) % 11 for place in range(size)]

    memory = SuffixMemory(max_tokens)
    for number in range(40):
        memory.add(document(number))
    added = lines_run(lambda: [memory.add(document(number)) for number in range(40, 60)], FOLDER)
    assert added <= (5 * COUNTED_LINKS + 90) * 20 * 51
    follower = memory.follow()
    follower.extend(document(99))
    followed = lines_run(lambda: [follower.extend([token]) for token in document(100, 200)], FOLDER)
    assert followed <= 60 * GENERATIONS * 200


def test_threads_add_and_follow_at_once_and_see_whole_documents_only():
    memory, errors = SuffixMemory(600), []
    stop = threading.Event()

    def add(first):
        for number in range(150):
            memory.add([first, *range(10, 30 + number % 5), first])

    def follow():
        try:
            while not stop.is_set():
                follower = memory.follow()
                for token in range(10, 28):
                    follower.extend([token])
                    with memory.lock:
                        held = memory.documents()
                        cursors = follower.cursors()
                        assert not held or cursors[0][1].length == token - 9
                        for automaton, cursor in cursors:
                            assert [next_ for next_, _ in automaton.continuations(cursor)] == [token + 1]
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    readers = [threading.Thread(target=follow) for _ in range(2)]
    writers = [threading.Thread(target=add, args=(first,)) for first in (1, 2)]
    try:
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join()
    finally:
        stop.set()
        for thread in readers:
            thread.join()
        sys.setswitchinterval(interval)
    assert errors == []
    assert len(memory) <= 600


TARGET = TableModel.random(30, 2, spread=4.0, seed=3)
GREEDY = SamplingParams(temperature=0)
PROMPT = (1, 2, 3)


@pytest.mark.parametrize("kind", [SuffixDrafter, SuffixTreeDrafter])
def test_a_second_request_is_drafted_from_the_output_of_the_first(kind):
    memory = SuffixMemory()
    decoder = SpeculativeDecoder(kind(memory=memory), TARGET, 6)
    first = decoder.generate(PROMPT, max_tokens=40, sampling=GREEDY)
    assert memory.documents() == [first.tokens]
    second = decoder.generate(PROMPT, max_tokens=40, sampling=GREEDY)
    assert second.tokens == first.tokens
    assert second.stats.rounds < 10 < first.stats.rounds
    other = SpeculativeDecoder(kind(memory=memory), TARGET, 6).generate(PROMPT, max_tokens=40, sampling=GREEDY)
    assert other.tokens == first.tokens
    assert other.stats.rounds < 10


def test_prompts_are_remembered_if_asked():
    memory = SuffixMemory(prompts=True)
    made = SpeculativeDecoder(SuffixDrafter(memory=memory), TARGET).generate(PROMPT, max_tokens=5, sampling=GREEDY)
    assert memory.documents() == [[*PROMPT, *made.tokens]]


def test_nothing_is_remembered_where_no_memory_is_given():
    drafter = SuffixDrafter()
    SpeculativeDecoder(drafter, TARGET).generate(PROMPT, max_tokens=5, sampling=GREEDY)
    assert drafter.memory is None
    assert drafter._remembered.documents() == []


def test_the_longer_match_is_copied_from():
    # In the text 5, 6 was followed by 7; in the memory 4, 5, 6 by 8, and 6 alone by 9.
    memory = SuffixMemory.of([[4, 5, 6, 8], [6, 9]])
    for text, expected in (((5, 6, 7, 4, 5, 6), 8), ((5, 6, 7, 3, 5, 6), 7)):
        for kind in (SuffixDrafter, SuffixTreeDrafter):
            decoder = SpeculativeDecoder(kind(memory=memory), TARGET)
            assert decoder.draft_generation(text, 1) == [expected]


def test_texts_that_are_cancelled_are_remembered_as_far_as_they_came():
    memory = SuffixMemory()
    engine = Engine(TARGET, SuffixDrafter(memory=memory), max_rows=2, capacity=64)
    kept, left = [engine.submit(Request(PROMPT, 20, GREEDY, detokenize=False)) for _ in range(2)]
    while len(left.tokens) < 4:
        engine.step()
    left.cancel()
    while not kept.finish_reason:
        engine.step()
    engine.step()
    assert sorted(memory.documents(), key=len) == [left.tokens, kept.tokens]


SAMPLED = SamplingParams(seed=5)


def test_a_seed_gives_the_same_text_for_the_same_memory():
    def text(*held):
        drafter = SuffixDrafter(memory=SuffixMemory.of(held), min_survival=0)
        return SpeculativeDecoder(drafter, TABLE).generate((1, 2, 1), max_tokens=12, sampling=SAMPLED).tokens

    assert text([1, 2, 3, 1, 0]) == text([1, 2, 3, 1, 0])
    assert (
        text()
        == SpeculativeDecoder(SuffixDrafter(min_survival=0), TABLE)
        .generate((1, 2, 1), max_tokens=12, sampling=SAMPLED)
        .tokens
    )


TABLE = TableModel.random(5, 1, spread=0.5, seed=8)


@pytest.mark.parametrize("several", [Merged, Chained])
def test_several_drafters_know_what_their_members_know(several):
    memory = SuffixMemory.of([[1, 2, 3, 4, 0]])
    drafted = []

    class Watching(ModelDrafter):
        def propose(self, sequences, budgets):
            drafted.extend(sequence.noise for sequence in sequences)
            return super().propose(sequences, budgets)

    decoder = SpeculativeDecoder(several([SuffixDrafter(memory=memory), Watching(TABLE)]), TABLE, 3)
    decoder.generate((0,), max_tokens=3, sampling=SAMPLED)
    assert drafted
    assert all(noise.seed != SAMPLED.seed for noise in drafted)


@pytest.mark.parametrize("prompts", [False, True])
def test_lookups_add_what_suffix_drafters_add(prompts: bool) -> None:
    """The output of each text, whether or not anything was drafted for it, and no token of the prompt."""
    memories = SuffixMemory(prompts=prompts), SuffixMemory(prompts=prompts)
    lookups = LookupDrafter([MemorySource(memories[0])])
    target = TableModel.random(5, 1, seed=3)
    for drafter in (lookups, SuffixDrafter(memory=memories[1])):
        for length in (1, 2, 9):
            decoder = SpeculativeDecoder(drafter, target, 3)
            decoder.generate((1, 2, 3), max_tokens=length, sampling=SamplingParams(temperature=0))
    assert memories[0].documents() == memories[1].documents()
    assert [len(document) for document in memories[0].documents()] == [length + 3 * prompts for length in (1, 2, 9)]
