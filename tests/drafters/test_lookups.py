"""What lookups know, how sure they are of it, and the trees that they grow."""

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider import (
    Draft,
    Engine,
    Goodput,
    LookupDrafter,
    RecyclingDrafter,
    RecyclingMemory,
    RecyclingSource,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    SuffixSource,
    TableModel,
)
from outrider.drafters.base import Reading
from outrider.drafters.lookup.calibration import LEAST, MOST, Calibration
from outrider.drafters.lookup.growth import Lookups
from outrider.drafters.lookup.mixture import expected
from outrider.drafters.lookup.source import Foresight, Source
from outrider.drafters.recycling.frozen import LEAST_KEPT, as_arrays, from_arrays, frozen_of
from outrider.drafters.recycling.memory import pair_key
from outrider.drafters.recycling.pruning import most_useful, worth
from outrider.drafters.recycling.successors import KEPT, Known, Successors
from outrider.maths.budget import Budget, Prices
from outrider.maths.draft import ROOT
from outrider.runtimes.base import Top

GREEDY = SamplingParams(temperature=0)


# Growth


class Table(Source):
    """Knows what follows a token, from a table [tokens, tokens] of shares."""

    def __init__(self, shares, left: float = 0.0) -> None:
        self.shares = shares
        self.left = left

    def foresee(self, cursor, context):
        row = self.shares[context[-1]]
        return Foresight([(token, share) for token, share in enumerate(row) if share > 0], self.left, {})


@st.composite
def tables(draw, size: int = 4):
    """Shares of each token's successors, which sum to at most 1."""
    rows = draw(st.lists(st.lists(st.floats(0, 1), min_size=size, max_size=size), min_size=size, max_size=size))
    return [[0.97 * share / max(sum(row), 1.0) for share in row] for row in rows]


def grown(table, nodes: int, depth: int = 6, children: int = 8, least: float = 0.0, prices: Prices | None = None):
    source = Table(table)
    budget = Budget(nodes, depth) if prices is None else Budget(nodes, depth, prices)
    return Lookups([source], least, children).grow([None], (0,), budget, Calibration())


@given(tables(), st.integers(1, 24), st.integers(1, 24), st.integers(1, 6), st.integers(1, 8))
def test_the_tree_of_a_smaller_budget_is_a_beginning_of_the_larger_one(table, few, many, depth, children) -> None:
    small, large = (grown(table, nodes, depth, children) for nodes in sorted((few, many)))
    assert large.chances[: len(small.chances)] == small.chances
    if len(set(large.chances)) == len(large.chances):  # of equal ones either may come first
        assert large.tokens[: len(small.tokens)] == small.tokens
        assert large.parents[: len(small.parents)] == small.parents


@given(tables(), st.integers(1, 24), st.integers(1, 6), st.integers(1, 8), st.floats(0, 0.5))
def test_a_tree_is_best_first_and_within_its_budget(table, nodes, depth, children, least) -> None:
    tree = grown(table, nodes, depth, children, least)
    draft = tree.draft(len(tree.tokens), "lookup", ["", "table"])
    assert len(draft) <= nodes
    assert max(draft.depths, default=0) <= depth
    assert tree.chances == sorted(tree.chances, reverse=True)
    for node, parent in enumerate(tree.parents):
        assert tree.chances[node] < (1.0 if parent == ROOT else tree.chances[parent])
        assert tree.chances[node] >= least
    for parent in (ROOT, *range(len(draft))):
        tokens = [draft.tokens[child] for child in draft.children(parent)]
        assert len(set(tokens)) == len(tokens) <= children


@given(tables(), st.integers(1, 12), st.integers(1, 4))
def test_no_node_that_was_left_out_is_likelier(table, nodes, depth) -> None:
    """The whole tree, level by level, holds no chance above the smallest that was taken."""
    tree = grown(table, nodes, depth)
    level, chances = [(0, 1.0)], []
    for _ in range(depth):
        level = [(token, chance * share) for at, chance in level for token, share in enumerate(table[at]) if share]
        chances += [chance for _, chance in level if chance > 1e-3]
    best = sorted(chances, reverse=True)[:nodes]
    assert [chance for chance in tree.chances if chance > 1e-3] == pytest.approx(best)


@given(tables(), st.integers(1, 10))
def test_chains_have_no_branches(table, nodes) -> None:
    tree = grown(table, nodes, nodes, children=1)
    assert tree.draft(len(tree.tokens), "lookup", ["", "table"]).is_chain


def test_what_costs_more_than_it_brings_is_not_drafted() -> None:
    table = [[0.0, 0.5, 0.3, 0.1]] * 4
    prices = Prices((0.0, 0.25, 0.5, 0.75, 1.0))
    tree = grown(table, 4, prices=prices)
    assert prices.worthwhile(tree.chances) == sum(chance > 0.25 for chance in tree.chances) > 0


# The mixture


@given(tables(), tables(), st.floats(0, 1))
def test_shares_of_all_sources_sum_to_at_most_1(first, second, left) -> None:
    table = [[share * (1 - left) for share in row] for row in first]
    found = expected([Table(table, left), Table(second)], [None, None], (0,))
    assert sum(found.shares.values()) <= 1 + 1e-9
    assert found.shares.keys() == found.proposers.keys()


def test_a_token_that_two_sources_expect_is_likelier_and_known_as_of_both() -> None:
    one, other = Table([[0, 0.4, 0.2, 0]], left=0.4), Table([[0, 0.5, 0, 0.5]])
    found = expected([one, other], [None, None], (0,))
    assert found.shares == pytest.approx({1: 0.6, 2: 0.2, 3: 0.2})
    assert found.proposers == {1: 3, 2: 1, 3: 2}


def test_nothing_known_is_nothing_expected() -> None:
    found = expected([RecyclingSource(), SuffixSource()], [None, None], (0,))
    assert (found.shares, found.evidence) == ({}, (2, 0))


# Calibration


@pytest.mark.parametrize("truth", [0.1, 0.3, 0.5, 0.9, 1.0, 1.8])
def test_calibration_finds_the_factor(truth: float) -> None:
    generator = np.random.default_rng(0)
    calibration = Calibration()
    for _ in range(4_000):
        calibration.learn({1: 0.4}, (0, 1), 1 if generator.random() < 0.4 * truth else 2)
    assert calibration.calibrated(0.4, (0, 1)) == pytest.approx(0.4 * min(max(truth, LEAST), MOST), abs=0.1)
    assert calibration.calibrated(0.4, (0, 2)) == 0.4  # other evidence is learned apart
    assert calibration.calibrated(0.01, (0, 1)) == 0.01  # and so are other sizes


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_what_is_calibrated_stays_a_probability(lessons) -> None:
    calibration = Calibration()
    for share, hit in lessons:
        calibration.learn({1: share}, (0, 0), int(hit))
    for share in (0.0, 1e-9, 0.01, 0.3, 1.0):
        assert 0 <= calibration.calibrated(share, (0, 0)) <= 1


# Successors


def test_a_mean_is_an_average_until_it_forgets() -> None:
    known = Successors(10, forgetting=0.25)
    for probability in (1.0, 0.5, 0.0):
        known.learn(7, [1, 2], [probability, 1 - probability])
    assert known.find(7).times == 3
    assert dict(known.find(7).successors) == pytest.approx({1: 0.5, 2: 0.5})
    mean = 0.5
    for _ in range(5):
        known.learn(7, [1, 2], [1.0, 0.0])
        mean = max(1 / known.find(7).times, 0.25) + mean * (1 - max(1 / known.find(7).times, 0.25))
        assert dict(known.find(7).successors)[1] == pytest.approx(mean)


def test_successors_are_the_likeliest_and_in_order() -> None:
    known = Successors(10, forgetting=0.1)
    known.learn(1, range(20), [1 / 20] * 20)
    known.learn(1, range(10, 20), [0.1] * 10)
    shares = [share for _, share in known.find(1).successors]
    assert len(shares) == KEPT
    assert shares == sorted(shares, reverse=True)


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(1, 5))
def test_the_contexts_not_met_for_longest_go_first(keys, most) -> None:
    known, model = Successors(most, 0.1), OrderedDict()
    for key in keys:
        known.learn(key, [key], [1.0])
        model.pop(key, None)
        model[key] = True
        if len(model) > most:
            model.popitem(last=False)
    assert len(known) == len(model)
    assert list(known.everything()) == list(model)
    assert [key for key in range(13) if known.find(key) is not None] == sorted(model)


def test_what_was_known_before_is_found_and_goes_on() -> None:
    before = Successors(10, 0.1)
    before.learn(1, [5], [1.0])
    before.learn(2, [6], [1.0])
    known = Successors(10, 0.1, before)
    known.learn(1, [7], [1.0])
    assert known.find(1) == Known(2, [(5, pytest.approx(0.5)), (7, pytest.approx(0.5))])
    assert known.find(2).times == 1
    assert set(known.everything()) == {1, 2}
    assert before.find(1).times == 1


@st.composite
def contexts(draw):
    keys = draw(st.lists(st.integers(0, 2**64 - 1), max_size=8, unique=True))
    successors = st.lists(
        st.tuples(st.integers(0, 99), st.floats(LEAST_KEPT, 1)), max_size=KEPT, unique_by=lambda pair: pair[0]
    )
    return {key: Known(draw(st.integers(1, 400)), draw(successors)) for key in keys}


@given(contexts())
def test_what_is_frozen_is_what_was_known(known) -> None:
    frozen = from_arrays(as_arrays(known, 100), 100)
    assert len(frozen) == len(known)
    for key, context in known.items():
        found = frozen.find(key)
        assert found.times == min(context.times, 255)
        assert [token for token, _ in found.successors] == [token for token, _ in context.successors]
        for (_, kept), (_, share) in zip(found.successors, context.successors, strict=True):
            assert kept**0.5 == pytest.approx(share**0.5, abs=0.51 / 255)
    assert frozen.everything() == {key: frozen.find(key) for key in sorted(known)}
    assert frozen.find(12345) is None or 12345 in known


@given(contexts(), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=40), st.booleans())
def test_what_was_loaded_and_learned_is_frozen_as_a_whole(known, lessons, loaded) -> None:
    earlier = from_arrays(as_arrays(known, 100), 100) if loaded else None
    keys = sorted(known)
    successors = Successors(20, 0.1, earlier)
    for key, token in lessons:
        successors.learn(keys[key] if key < len(keys) else key, [token, 99 - token], [0.7, 0.2])
    whole = frozen_of(successors, 100).arrays()
    expected_arrays = from_arrays(as_arrays(successors.everything(), 100), 100).arrays()
    for name, values in expected_arrays.items():
        np.testing.assert_array_equal(whole[name], values)
        assert whole[name].dtype == values.dtype


def test_observations_that_wait_are_saved() -> None:
    known = Successors(10, 0.02)
    for _ in range(21):
        known.learn(7, [1], [0.5])
    assert frozen_of(known, 9).find(7).times == known.everything()[7].times == 21


def test_what_is_pruned_says_least() -> None:
    single = {9: Known(5, [(1, 0.9)])}
    pairs = {
        pair_key(1, 9): Known(10, [(1, 0.9)]),  # nothing new
        pair_key(2, 9): Known(10, [(2, 0.9)]),
        pair_key(3, 9): Known(1, [(2, 0.9)]),  # met rarely
        pair_key(4, 8): Known(9, [(2, 0.9)]),  # of the last token nothing is known
    }
    assert worth(pairs[pair_key(1, 9)], single[9]) == 0
    assert list(most_useful(pairs, single, 2)) == [pair_key(2, 9), pair_key(4, 8)]
    assert most_useful(pairs, single, 4) == pairs
    assert most_useful(pairs, single, 0) == {}


# Which context a top row is of


class ByPlace(TableModel):
    """The most probable token tells the last two tokens of the text."""

    def __init__(self, size: int = 5) -> None:
        generator = np.random.default_rng(4)
        super().__init__(generator.normal(0, 2, (size,) * 3))


@dataclass
class Watched(RecyclingMemory):
    """Writes down what it learns."""

    lessons: list = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def learn(self, contexts, tokens, probabilities):
        self.lessons += zip(contexts, tokens, probabilities, strict=True)
        return super().learn(contexts, tokens, probabilities)


def lessons_are_right(lessons, target: TableModel, least: int) -> None:
    assert len(lessons) >= least
    for (before, last), tokens, probabilities in lessons:
        logits = target.logits_after([0 if before is None else before, last])
        weights = np.exp(logits - logits.max())
        assert tokens[0] == int(logits.argmax())
        assert probabilities == pytest.approx(sorted(weights / weights.sum(), reverse=True), rel=1e-5)


@pytest.mark.parametrize("trees", [True, False])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("length", [1, 2, 9, 150])
def test_each_scored_token_teaches_what_follows_it(trees: bool, rows: int, length: int) -> None:
    target, memory = ByPlace(), Watched()
    drafter = LookupDrafter([SuffixSource(), RecyclingSource(memory)], trees=trees)
    engine = Engine(target, drafter, lookahead=6, max_rows=rows, capacity=220)
    for seed in range(2 * rows):
        prompt = np.random.default_rng(seed).integers(0, 5, length + seed).tolist()
        engine.submit(Request(prompt, 20, SamplingParams(seed=seed), frozenset(), detokenize=False))
    while not engine.idle:
        engine.step()
    lessons_are_right(memory.lessons, target, 2 * rows * 20)
    starts = [context for context, _, _ in memory.lessons if context[0] is None]
    assert len(starts) == (1 if length == 1 else 0)  # a prompt of one token has nothing before it


def test_a_top_row_of_the_wrong_node_would_be_noticed(monkeypatch) -> None:
    def as_in_a_chain(sequence: object, reading: Reading, scored: int) -> list[tuple[int, int]]:
        return list(zip([0, *reading.tokens[-scored:]], reading.tokens[-scored:], strict=False))

    monkeypatch.setattr("outrider.drafters.recycling.source._contexts", as_in_a_chain)
    with pytest.raises(AssertionError):
        test_each_scored_token_teaches_what_follows_it(True, 1, 9)


def test_other_rules_and_policies_teach_the_same() -> None:
    target, memory = ByPlace(), Watched()
    drafter = LookupDrafter([RecyclingSource(memory)])
    for rule, lookahead in (("coupled", Goodput()), ("token", 3)):
        SpeculativeDecoder(drafter, target, lookahead, rule=rule).generate([1, 2, 3], max_tokens=30, sampling=GREEDY)
    lessons_are_right(memory.lessons, target, 30)


@dataclass
class Text:
    id: int = 0
    tokens: tuple = (1, 2)
    predicted: tuple = ()


def test_probabilities_that_are_no_numbers_teach_nothing() -> None:
    source = RecyclingSource()
    source.prepare(5)
    top = Top(np.array([[1, 2], [3, 4], [0, 1]]), np.array([[np.nan, 0.1], [0.9, 0.1], [np.inf, 0]], dtype=np.float32))
    source.read(Text(), Reading(1, [2, 3, 4], Draft((3, 4)), top=top))
    assert source.memory.find([2, 3])[0] == Known(1, [(3, pytest.approx(0.9)), (4, pytest.approx(0.1))])
    assert source.memory.find([1, 2]) == (None, None)
    assert source.memory.find([3, 4]) == (None, None)


def test_a_text_whose_logits_are_no_numbers_fails_alone() -> None:
    class Spoiled(TableModel):
        def logits_after(self, context):
            logits = super().logits_after(context)
            return np.full_like(logits, np.nan) if len(context) and context[0] == 4 else logits

        def last_logits(self, tokens, count):
            return np.array(
                [self.logits_after(tokens[:end]) for end in range(len(tokens) - count + 1, len(tokens) + 1)]
            )

    table = np.random.default_rng(0).normal(0, 2, (5, 5))
    engine = Engine(Spoiled(table), LookupDrafter(), lookahead=4, max_rows=2, capacity=64)
    bad, good = (engine.submit(Request(prompt, 20, GREEDY, detokenize=False)) for prompt in ([4, 1], [1, 2]))
    while not engine.idle:
        engine.step()
    assert bad.error is not None
    assert engine.drafter_failures == 0
    plain = SpeculativeDecoder(None, TableModel(table)).generate([1, 2], max_tokens=20, sampling=GREEDY)
    assert good.tokens == plain.tokens


# Shared memories, settings


def test_two_engines_in_two_threads_share_a_memory() -> None:
    target, memory = TableModel.random(20, 2, spread=3.0, seed=1), RecyclingMemory(50)
    texts: dict[int, list[int]] = {}

    def decode(seed: int) -> None:
        decoder = SpeculativeDecoder(RecyclingDrafter(memory), target, 5, rule="coupled")
        texts[seed] = decoder.generate([1, 2], max_tokens=200, sampling=SamplingParams(seed=seed)).tokens

    threads = [Thread(target=decode, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plain = SpeculativeDecoder(None, target, rule="coupled")
    for seed in range(3):
        assert texts[seed] == plain.generate([1, 2], max_tokens=200, sampling=SamplingParams(seed=seed)).tokens
    assert len(memory.pairs) <= 50


def test_what_one_text_taught_helps_the_next() -> None:
    target, drafter = TableModel.random(50, 2, spread=4.0, seed=2), RecyclingDrafter()
    decoder = SpeculativeDecoder(drafter, target, 6)
    first, second = (decoder.generate([1, 2], max_tokens=60, sampling=GREEDY).stats for _ in range(2))
    assert second.rounds < first.rounds


def test_a_small_vocabulary_has_fewer_top_tokens() -> None:
    decoder = SpeculativeDecoder(LookupDrafter(), TableModel.random(3, 1, seed=0), 4)
    assert decoder.generate([0, 1], max_tokens=20, sampling=GREEDY).stats.accepted > 0


def test_a_memory_belongs_to_one_vocabulary() -> None:
    drafter = RecyclingDrafter(RecyclingMemory(vocab_size=9))
    with pytest.raises(SettingError, match="of a vocabulary of 9 tokens and the target has 5"):
        drafter.prepare(1, 10, 5)
    for wrong in (-0.1, 1.1):
        with pytest.raises(SettingError, match="min_chance"):
            LookupDrafter(min_chance=wrong)
    with pytest.raises(SettingError, match="sources is empty"):
        LookupDrafter([])
    with pytest.raises(SettingError, match="most is 0"):
        RecyclingMemory(0)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(1, 4))
def test_suffixes_follow_the_text_whatever_pieces_it_comes_in(tokens, pieces) -> None:
    source, whole = SuffixSource(), SuffixSource()
    for end in (*range(1, len(tokens), pieces), len(tokens)):
        cursor = source.begin(Text(3, tuple(tokens[:end])))
    once = whole.begin(Text(3, tuple(tokens)))
    found, right = source.foresee(cursor, ()), whole.foresee(once, ())
    assert (found is None) == (right is None)
    if found is not None:
        assert found.shares == right.shares
