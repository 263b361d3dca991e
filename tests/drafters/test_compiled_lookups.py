"""The compiled library drafts what Python drafts: the same tokens, parents, chances and sources, after any history."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drafters.replay import GREEDY, Replayed, replay, saved_answers
from outrider import (
    LookupDrafter,
    MemorySource,
    RecyclingDrafter,
    RecyclingMemory,
    RecyclingSource,
    SamplingParams,
    SpeculativeDecoder,
    SuffixDrafter,
    SuffixMemory,
    SuffixSource,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.drafters.base import Reading
from outrider.drafters.lookup.compiled import lookups_over
from outrider.drafters.lookup.growth import Lookups
from outrider.drafters.lookup.source import Source
from outrider.drafters.recycling.state import load_state, save_state, state_of
from outrider.drafters.suffix.automaton import SuffixAutomaton, new_automaton
from outrider.maths.budget import Budget, Prices
from outrider.maths.draft import ROOT, Verdict
from outrider.runtimes.base import Top
from outrider.runtimes.native.library import drafting

pytestmark = pytest.mark.skipif(drafting() is None, reason="needs the compiled library: pip install ./native")

SIZE = 6  # of the vocabulary of random texts


@pytest.fixture(scope="module")
def in_python():
    """Calls a function as if the compiled library were of another version."""

    def call(make):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("outrider.runtimes.native.library.DRAFTING", 0)
            assert drafting() is None
            return make()

    return call


# Automata


def cursor_of(cursor):
    return None if cursor is None else (cursor.state, cursor.length)


def everything_at(automaton, cursor, ahead):
    """All that an automaton tells of a substring, of its suffixes, and of what follows."""
    told = []
    while cursor is not None:
        told.append((cursor_of(cursor), automaton.width(cursor), automaton.continuations(cursor)))
        told.append([(token, count, cursor_of(longer)) for token, count, longer in automaton.followers(cursor)])
        told.append([cursor_of(automaton.step(cursor, token)) for token in (-1, 0, 1, 9)])
        told.append(cursor_of(automaton.follow(cursor, ahead)))
        longest, followed = automaton.continued(cursor)
        told.append((cursor_of(longest), followed))
        cursor = automaton.shorter(cursor)
    return told


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 2), st.none()), max_size=60), st.integers(2, 80), st.lists(st.integers(0, 3)))
def test_automata_are_the_same(text, max_tokens, ahead):
    ours, compiled = SuffixAutomaton(max_tokens), new_automaton(drafting(), max_tokens)
    assert type(compiled) is not type(ours)
    for token in text:
        for automaton in (ours, compiled):
            if token is None:
                automaton.append_boundary()
            else:
                automaton.append(token)
        assert (len(compiled), compiled.states) == (len(ours), ours.states)
        assert everything_at(compiled, compiled.match, ahead) == everything_at(ours, ours.match, ahead)
    assert everything_at(compiled, compiled.nothing, ahead) == everything_at(ours, ours.nothing, ahead)


def test_a_long_text_has_the_same_automaton():
    text = np.random.default_rng(0).zipf(1.3, 3000).clip(max=500).tolist()
    ours, compiled = SuffixAutomaton(2000), new_automaton(drafting(), 2000)
    for first in range(0, len(text), 100):
        for automaton in (ours, compiled):
            automaton.extend(text[first : first + 100])
        assert everything_at(compiled, compiled.match, text[:9]) == everything_at(ours, ours.match, text[:9])


def test_the_library_refuses_what_it_cannot_hold():
    automaton = new_automaton(drafting(), 10)
    automaton.extend([1, 2])
    for wrong in ([1, -1], [1, 1 << 31]):
        with pytest.raises(ValueError, match="a token that is none"):
            automaton.extend(wrong)
    assert len(automaton) == 2
    larger = new_automaton(drafting(), 99)
    larger.extend(range(50))
    with pytest.raises(ValueError, match="a cursor of another automaton"):
        automaton.width(larger.follow(larger.nothing, range(50)))


# Successors


@st.composite
def lessons(draw):
    """Contexts, their most probable tokens and probabilities; of each, which contexts are looked up before."""
    count = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 10_000))
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(draw(st.integers(1, 60))):
        before = None if generator.random() < 0.1 else int(generator.integers(0, 3))
        shares = np.sort(generator.dirichlet([0.5] * count))[::-1].astype(np.float32)
        looked_up = [(int(a), int(b)) for a, b in generator.integers(0, 3, (generator.integers(0, 3), 2))]
        made.append(((before, int(generator.integers(0, 3))), generator.permutation(12)[:count], shares, looked_up))
    return made


def as_lists(known):
    return [None if each is None else (each.times, list(each.successors)) for each in known]


@settings(max_examples=60, deadline=None)
@given(lessons(), lessons(), st.integers(1, 6))
def test_successors_are_the_same(in_python, first, second, most):
    def taught(memory, made):
        found = []
        for context, tokens, shares, looked_up in made:
            found += [as_lists(memory.find(each)) for each in looked_up]
            memory.learn([context], tokens[None], shares[None])
        return found

    def told():
        memory = RecyclingMemory(most, vocab_size=12)
        found = taught(memory, first)
        later = state_of(memory).memory()  # starts from what is frozen
        found += taught(later, second)
        everything = [as_lists(known.values()) + list(known) for known in later.everything()]
        return memory.library, found, everything, later.experience, (len(memory.pairs), len(memory.single))

    library, *compiled = told()
    none, *ours = in_python(told)
    assert library is not None
    assert none is None
    assert compiled == ours


# Drafts


class Silent(Source):
    """Knows nothing: but trees grow in Python where it is among the sources."""

    def foresee(self, cursor, context):
        return None


@dataclass
class Story:
    """One drafter's way through a random history."""

    drafter: LookupDrafter
    memory: SuffixMemory


def drafter_with(*further: Source) -> Story:
    memory, recycling = SuffixMemory(400), RecyclingMemory(9)
    return Story(LookupDrafter([SuffixSource(200), MemorySource(memory), RecyclingSource(recycling), *further]), memory)


def drafts_of(story: Story, seed: int, texts: int = 3, rounds: int = 25):
    """All drafts of random texts, which a random target answers; whatever is random depends on the seed alone."""
    generator = np.random.default_rng(seed)
    drafter, made = story.drafter, []
    drafter.prepare(2, 500, SIZE)
    for number in range(texts):
        sampling = GREEDY if generator.random() < 0.5 else SamplingParams()
        sequence = Replayed(number, generator.integers(0, SIZE, generator.integers(1, 40)).tolist(), sampling=sampling)
        for _ in range(rounds):
            totals = np.cumsum(generator.random(generator.integers(1, 20)) * generator.choice([0.02, 0.2, 0.6]))
            prices = Prices((0.0, *totals.tolist())) if generator.random() < 0.7 else Prices()
            budget = Budget(int(generator.integers(0, 14)), int(generator.integers(0, 7)), prices)
            draft = drafter.propose([sequence], [budget])[0]
            made.append(draft)
            path, node = [], ROOT
            while draft.children(node) and generator.random() < 0.6:
                node = int(generator.choice(draft.children(node)))
                path.append(node)
            came = None if generator.random() < 0.05 else int(generator.integers(0, SIZE))
            tokens = np.array([generator.permutation(SIZE) for _ in range(1 + len(draft))])
            shares = np.sort(generator.dirichlet([0.4] * SIZE, 1 + len(draft)))[:, ::-1].astype(np.float32)
            fed = [sequence.tokens[-1], *draft.tokens]
            top = Top(tokens, shares) if generator.random() < 0.9 else None
            drafter.read([sequence], [Reading(len(sequence.tokens) - 1, fed, draft, top=top)])
            sequence.tokens = [*sequence.tokens, *(draft.tokens[node] for node in path), came or 0]
            drafter.observe(sequence, draft, Verdict(tuple(path), came, bonus=False))
        drafter.forget(sequence)
    return made


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 30))
def test_drafts_are_the_same_after_any_history(in_python, seed):
    compiled = drafts_of(drafter_with(), seed)
    assert compiled == in_python(lambda: drafts_of(drafter_with(), seed))
    assert compiled == drafts_of(drafter_with(Silent()), seed)
    assert any(len(draft) > 3 for draft in compiled)


def test_the_library_is_used_where_it_knows_all_sources(in_python):
    known = [SuffixSource(), MemorySource(), RecyclingSource()]
    assert not isinstance(lookups_over(known, 0.01, 8), Lookups)
    assert isinstance(lookups_over([*known, Silent()], 0.01, 8), Lookups)
    assert isinstance(in_python(lambda: lookups_over(known, 0.01, 8)), Lookups)
    # A memory that was made without the library stays in Python.
    assert isinstance(lookups_over([RecyclingSource(in_python(RecyclingMemory))], 0.01, 8), Lookups)


@pytest.mark.parametrize("make", [LookupDrafter, RecyclingDrafter, SuffixDrafter, SuffixTreeDrafter])
def test_saved_answers_are_drafted_alike(in_python, make):
    prices = Prices(tuple(0.06 * count for count in range(17)))
    texts = saved_answers()[::3]

    def tallies():
        return replay(make(), texts), replay(make(), texts, prices=prices)

    assert tallies() == in_python(tallies)


@pytest.mark.parametrize("rule", ["coupled", "token"])
def test_texts_and_rounds_are_the_same(in_python, rule):
    target = TableModel.random(20, 2, spread=2.0, seed=1)

    def texts():
        drafter = LookupDrafter([SuffixSource(), MemorySource(), RecyclingSource()])
        decoder = SpeculativeDecoder(drafter, target, 6, rule=rule)
        made = [decoder.generate([1, 2], max_tokens=80, sampling=SamplingParams(seed=seed)) for seed in (0, 1, 0)]
        return [(each.tokens, each.stats.rounds, each.stats.drafted, each.stats.accepted) for each in made]

    assert texts() == in_python(texts)


def test_what_the_library_learned_is_saved_alike(in_python, tmp_path):
    def saved(name):
        drafter = RecyclingDrafter(RecyclingMemory(vocab_size=12))
        generator = np.random.default_rng(3)
        memory = drafter.sources[0].memory
        for _ in range(40):
            contexts = [tuple(pair) for pair in generator.integers(0, 12, (3, 2)).tolist()]
            shares = np.sort(generator.dirichlet([1.0] * 8, 3))[:, ::-1]
            memory.learn(contexts, np.array([generator.permutation(12)[:8] for _ in range(3)]), shares)
        save_state(state_of(memory), tmp_path / name)
        return load_state(tmp_path / name)

    compiled, ours = saved("compiled.npz"), in_python(lambda: saved("python.npz"))
    assert compiled.single.everything() == ours.single.everything()
    assert compiled.pairs.everything() == ours.pairs.everything()
    assert compiled.experience == ours.experience
