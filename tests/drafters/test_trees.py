"""How trees grow, and what the engine makes of them; that they are exact is shown in exactness/test_trees.py."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from exactness.simulated_time import Clock, TimedModel, steady
from outrider import (
    Budget,
    Chained,
    Draft,
    Drafter,
    DynamicTree,
    Engine,
    Fixed,
    Merged,
    ModelTreeDrafter,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    StaticTree,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.drafters.growth import Growth
from outrider.drafters.several.joining import join
from outrider.maths.draft import EMPTY, ROOT

GREEDY = SamplingParams(temperature=0, seed=0)
PROMPT = (3, 1, 2)


class Watched(Drafter):
    """Keeps what another drafter proposed."""

    def __init__(self, drafter: Drafter) -> None:
        self.drafter = drafter
        self.trees = drafter.trees
        self.name = drafter.name
        self.drafts: list[Draft] = []

    def prepare(self, rows, capacity, vocab_size):
        self.drafter.prepare(rows, capacity, vocab_size)

    def propose(self, sequences, budgets):
        drafts = self.drafter.propose(sequences, budgets)
        self.drafts += drafts
        return drafts

    def forget(self, sequence):
        self.drafter.forget(sequence)


def first_draft(shape, nodes: int, *, target: TableModel, sampling: SamplingParams = GREEDY, **settings) -> Draft:
    watched = Watched(ModelTreeDrafter(target, shape, **settings))
    SpeculativeDecoder(watched, target, nodes).generate(PROMPT, max_tokens=20, sampling=sampling)
    return watched.drafts[0]


# Growth


def test_a_budget_buys_the_worthiest_nodes() -> None:
    growth = Growth(Budget(4, 3))
    growth.open(ROOT, [7, 8, 9], [0.6, 0.3, 0.1])
    assert growth.next_level() == [0, 1, 2]
    growth.open(0, [1, 2], [0.9, 0.05])
    growth.open(1, [3], [0.5])
    growth.open(2, [4], [0.9])
    assert [growth.path(node) for node in growth.next_level()] == [[7, 1]]  # [8, 3] would be the fourth and last
    growth.open(3, [5], [0.7])
    draft = growth.draft("some")
    assert [draft.tokens[node] for node in range(4)] == [7, 1, 5, 8]
    assert draft.parents == (ROOT, 0, 1, ROOT)


def test_the_last_that_the_budget_buys_has_no_children() -> None:
    growth = Growth(Budget(2, 5))
    growth.open(ROOT, [7, 8], [0.6, 0.3])
    assert growth.next_level() == [0]


def test_children_are_looked_for_on_a_beam_of_nodes() -> None:
    growth = Growth(Budget(9, 3), beam=1)
    growth.open(ROOT, [7, 8], [0.4, 0.3])
    assert growth.next_level() == [0]


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=3)], ids=["greedy", "sampled"])
def test_a_smaller_budget_gives_the_beginning_of_the_same_tree(sampling: SamplingParams) -> None:
    target = TableModel.random(12, 2, spread=1.5, seed=1)
    trees = [first_draft(DynamicTree(3, 5, 4), nodes, target=target, sampling=sampling) for nodes in range(1, 13)]
    for smaller, larger in pairwise(trees):
        assert len(larger) == len(smaller) + 1
        assert larger.tokens[:-1] == smaller.tokens
        assert larger.parents[:-1] == smaller.parents


def test_a_tree_is_narrow_where_the_draft_model_is_sure_and_wide_where_it_is_not() -> None:
    sure = first_draft(DynamicTree(4, 8), 6, target=TableModel.random(8, 1, spread=60.0, seed=1))
    unsure = first_draft(DynamicTree(4, 8), 6, target=TableModel.random(8, 1, spread=0.1, seed=1))
    assert max(sure.depths) == 6
    assert max(unsure.depths) == 2


def test_a_static_tree_has_its_widths() -> None:
    shape = StaticTree((3, 2, 1))
    draft = first_draft(shape, shape.nodes, target=TableModel.random(8, 1, seed=1))
    assert shape.nodes == 15
    assert [draft.depths.count(depth) for depth in (1, 2, 3)] == [3, 6, 6]
    assert {len(draft.children(node)) for node in range(15) if draft.depths[node] == 1} == {2}


def test_drawn_siblings_differ_and_know_their_distribution() -> None:
    target = TableModel.random(8, 1, seed=1)
    draft = first_draft(StaticTree((3, 2)), 9, target=target, sampling=SamplingParams(seed=1))
    for node in range(ROOT, len(draft)):
        children = draft.children(node)
        assert len({draft.tokens[child] for child in children}) == len(children)
        context = [*PROMPT, *(draft.tokens[above] for above in draft.path(node))]
        logits = target.logits_after(context)
        for child in children:
            np.testing.assert_allclose(
                draft.q[draft.q_row(child)], np.exp(logits) / np.exp(logits).sum(), rtol=1e-5, atol=1e-7
            )


@pytest.mark.parametrize("widths", [(), (2, 0), (100, 100)])
def test_impossible_shapes_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(SettingError, match="tree widths"):
        StaticTree(widths)
    with pytest.raises(SettingError, match="beam of a tree is 0"):
        DynamicTree(beam=0)


# In the engine


def test_block_refuses_a_drafter_of_trees_before_the_first_token() -> None:
    target = TableModel.random(8, 1)
    with pytest.raises(SettingError, match="rule block judges chains, and drafter model proposes trees"):
        Engine(target, ModelTreeDrafter(target), rule="block")


@pytest.mark.parametrize("rule", ["token", "coupled"])
def test_a_drafter_that_is_the_target_is_accepted_to_the_leaves(rule: str) -> None:
    """A draft cache that kept the wrong branch would not make the output wrong, only seldom accepted."""
    target = TableModel.random(8, 3, seed=5)
    decoder = SpeculativeDecoder(ModelTreeDrafter(target, StaticTree((2, 2, 1))), target, 10, rule=rule)
    stats = decoder.generate(PROMPT, max_tokens=41, sampling=SamplingParams(seed=1)).stats
    assert stats.rounds == 11
    assert stats.accepted == 30


def test_rows_of_different_shapes_share_a_round() -> None:
    target = TableModel.random(10, 2, seed=2)
    drafter = ModelTreeDrafter(TableModel.random(10, 2, seed=3), DynamicTree(3, 4))

    class Uneven(Fixed):
        def plan(self, sequences):
            return [3 * int(sequence) for sequence in sequences]

    engine = Engine(target, drafter, lookahead=Uneven(0), max_rows=4, capacity=30)
    prompts = [PROMPT[: 1 + row % 3] for row in range(4)]
    sequences = [engine.submit(Request(prompt, 20, GREEDY)) for prompt in prompts]
    while not engine.idle:
        engine.step()
    for prompt, sequence in zip(prompts, sequences, strict=True):
        plain = SpeculativeDecoder(None, target).generate(prompt, max_tokens=20, sampling=GREEDY)
        assert sequence.tokens == plain.tokens
    assert sequences[3].stats.drafted > sequences[1].stats.drafted > 0


def test_a_tree_fits_at_the_end_of_a_row_and_of_the_models_context() -> None:
    target = TableModel.random(8, 1, seed=2)
    target.traits = replace(target.traits, context_length=16)
    drafter = ModelTreeDrafter(TableModel.random(8, 1, seed=3), DynamicTree(4, 8, 8))
    drafter.model.traits = replace(drafter.model.traits, context_length=12)
    watched = Watched(drafter)
    decoder = SpeculativeDecoder(watched, target, 1000)
    text = decoder.generate(PROMPT, max_tokens=50, sampling=SamplingParams(seed=1))
    assert len(text.tokens) == 13
    assert max(len(draft) for draft in watched.drafts) > 16  # more nodes than the row could ever hold tokens


# Several drafters


def test_joined_drafts_share_their_prefixes_and_know_their_sources() -> None:
    chain = Draft((5, 6, 7), source="one")
    tree = Draft((5, 9, 6, 8), parents=(ROOT, ROOT, 0, 2), source="two")
    joined, places = join([chain, tree])
    found = {(*(joined.tokens[above] for above in joined.path(node)),): joined.source_of(node) for node in range(5)}
    assert found == {(5,): "one+two", (5, 6): "one+two", (9,): "two", (5, 6, 7): "one", (5, 6, 8): "two"}
    assert [joined.tokens[places[1][node]] for node in range(4)] == [5, 9, 6, 8]
    assert len(joined.trials) == 5  # a choice that was tried before is no trial


def test_a_token_drawn_by_two_drafters_is_one_node_and_two_trials() -> None:
    q = np.full((1, 4), 0.25, dtype=np.float32)
    joined, _ = join([Draft((2,), q=q), Draft((2,), q=q)])
    assert len(joined) == 1
    assert joined.trials == ((0, 0), (0, 1))
    assert not joined.is_chain


def test_the_only_draft_stays_what_it_was() -> None:
    chain = Draft((5, 6, 7))
    assert join([EMPTY, chain])[0] is chain
    assert join([EMPTY, EMPTY])[0] is EMPTY


class Scripted(Drafter):
    """Proposes the same chain always, and takes its time."""

    def __init__(self, name, tokens, clock=None, seconds=0.0):
        self.name = name
        self.tokens = tokens
        self.clock = clock
        self.seconds = seconds
        self.calls = 0
        self.seen = []

    def propose(self, sequences, budgets):
        self.calls += 1
        if self.clock is not None:
            self.clock.now += self.seconds
        return [Draft(tuple(self.tokens[: budget.longest]), source=self.name) for budget in budgets]

    def observe(self, sequence, draft, verdict):
        self.seen.append((draft.tokens, verdict.path))


def always(token: int, vocab_size: int = 6) -> TableModel:
    """A model that says one token only."""
    return TableModel(np.where(np.arange(vocab_size) == token, 0.0, -50.0))


def test_events_name_the_drafters_of_each_token() -> None:
    drafter = Merged([Scripted("one", [2, 2]), Scripted("two", [2, 2, 2])], rests=False)
    decoder = SpeculativeDecoder(drafter, always(2), 5)
    events = list(decoder.stream((1,), max_tokens=4, sampling=GREEDY))
    assert [event.source for event in events] == ["one+two", "one+two", "two", ""]
    assert drafter.drafters[0].seen == [((2, 2), (0, 1))]
    assert drafter.drafters[1].seen == [((2, 2, 2), (0, 1, 2))]


def test_a_drafter_that_does_not_pay_is_rested_and_probed() -> None:
    clock = Clock()
    good, useless = Scripted("good", [2, 2], clock, 0.1), Scripted("useless", [3, 3], clock, 5.0)
    merged = Merged([good, useless], clock=clock)
    target = TimedModel(always(2), clock, steady(1.0, 0.0))
    generation = SpeculativeDecoder(merged, target, 4).generate((1,), max_tokens=601, sampling=GREEDY)
    rounds = generation.stats.rounds
    assert good.calls > 0.99 * rounds
    assert 8 < useless.calls < 0.25 * rounds
    assert merged.accounts[0].credit > 0.9 * generation.stats.accepted
    assert merged.accounts[1].credit == 0
    useless.tokens = [2, 2, 2, 2]  # it has learned, and is found out
    useless.seconds = 0.01
    before = useless.calls
    SpeculativeDecoder(merged, target, 4).generate((1,), max_tokens=2000, sampling=GREEDY)
    assert useless.calls - before > 300


def test_what_drafters_of_trees_would_say_alone_is_a_path() -> None:
    drafter = Merged([Scripted("one", [4]), Scripted("two", [2, 3, 2])])
    assert SpeculativeDecoder(drafter, always(2), 4).draft_generation([1], 6) == [2, 3, 2]
    tree = ModelTreeDrafter(always(2))
    assert SpeculativeDecoder(tree, always(2), 4).draft_generation([1], 5) == [2] * 5


def test_a_drafter_that_fails_leaves_the_others() -> None:
    class Broken(Drafter):
        name = "broken"

        def propose(self, sequences, budgets):
            raise ValueError("out of order")

    decoder = SpeculativeDecoder(Merged([Broken(), Scripted("good", [2, 2])]), always(2), 4)
    with pytest.warns(RuntimeWarning, match="drafter broken failed and is dropped; the others go on"):
        text = decoder.generate((1,), max_tokens=9, sampling=GREEDY)
    assert text.stats.accepted == 6


def test_one_that_begins_to_draw_for_several_texts_takes_no_more_than_the_budget() -> None:
    """Until then it had the whole budget, as one that chooses its tokens."""

    class Beginning(Drafter):
        name = "beginning"
        rounds = 0

        def propose(self, sequences, budgets):
            self.rounds += 1
            uniform = np.full((2, 4), 0.25, np.float32)
            q = {"q": uniform, "q_rows": (0, 1)} if self.rounds > 2 else {}
            return [Draft((2, 2), (ROOT, 0), **q) if budget.nodes >= 2 else EMPTY for budget in budgets]

    target = always(2)
    engine = Engine(target, Merged([Beginning(), ModelTreeDrafter(target)], rests=False), lookahead=2, max_rows=3)
    texts = [engine.submit(Request((1,), 20, SamplingParams(seed=seed))) for seed in range(3)]
    while not engine.idle:
        engine.step()
    assert engine.drafter_failures == 0
    assert [text.tokens for text in texts] == [[2] * 20] * 3


@pytest.mark.parametrize("several", [Merged, Chained])
@pytest.mark.parametrize("call", ["prepare", "read", "observe", "forget"])
def test_a_drafter_that_fails_in_any_call_leaves_the_others(several, call: str) -> None:
    def fail(*arguments):
        raise ValueError("out of order")

    broken, good = Scripted("broken", [2]), Scripted("good", [2, 2])
    setattr(broken, call, fail)
    decoder = SpeculativeDecoder(several([broken, good]), always(2), 4)
    with pytest.warns(RuntimeWarning, match="drafter broken failed and is dropped; the others go on"):
        text = decoder.generate((1,), max_tokens=9, sampling=GREEDY)
    assert text.stats.accepted >= 4
    assert text.tokens == [2] * 9


def test_the_failure_of_the_last_drafter_is_that_of_all() -> None:
    class Broken(Scripted):
        def observe(self, sequence, draft, verdict):
            raise ValueError("out of order")

    decoder = SpeculativeDecoder(Merged([Broken("one", [2])]), always(2), 4)
    with pytest.warns(RuntimeWarning, match="drafter one failed and is dropped; decoding goes on plainly"):
        assert decoder.generate((1,), max_tokens=9, sampling=GREEDY).tokens == [2] * 9


def test_the_next_in_a_chain_is_asked_where_the_first_has_nothing_to_say() -> None:
    first, second = Scripted("first", []), Scripted("second", [2])
    chained = Chained([first, second])
    text = SpeculativeDecoder(chained, always(2), 3, rule="block").generate((1,), max_tokens=10, sampling=GREEDY)
    assert first.calls == second.calls == 5
    assert text.stats.accepted == 5
    first.tokens = [2, 2]
    SpeculativeDecoder(chained, always(2), 3).generate((1,), max_tokens=9, sampling=GREEDY)
    assert second.calls == 5


def test_competing_continuations_make_a_tree() -> None:
    watched = Watched(SuffixTreeDrafter())
    prompt = (1, 2, 3, 9, 1, 2, 4, 9, 1, 2, 3, 8, 1, 2)
    SpeculativeDecoder(watched, always(2, 16), 6).generate(prompt, max_tokens=8, sampling=GREEDY)
    draft = watched.drafts[0]
    assert [draft.tokens[child] for child in draft.children(ROOT)][:2] == [3, 4]
    assert max(draft.depths) > 1
    assert len(draft) == 6
