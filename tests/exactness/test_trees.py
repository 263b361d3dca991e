"""Trees of candidates: whatever grows them, the output has the target's distribution, though most are rejected."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from exactness import mutations
from exactness.drafters import lookups, memory_of, similar
from exactness.draws import Draws, Sample, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.mutations import Mistake
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from outrider import (
    Chained,
    Drafter,
    DynamicTree,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    RecyclingDrafter,
    SamplingParams,
    SpeculativeDecoder,
    StaticTree,
    SuffixDrafter,
    SuffixTreeDrafter,
    TableModel,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

LENGTH = 2
PROMPT = (3, 1, 2, 3, 1, 4, 3, 1)  # repetitive, so that the suffix drafter has something to say
STATIC, DYNAMIC = StaticTree((3, 2, 1)), DynamicTree(most_children=3, depth=3, beam=2)


def opposite(target: TableModel) -> TableModel:
    """A draft model that believes the opposite of the target, so that most drafts are rejected."""
    return TableModel(-target.table, name="draft")


DRAFTERS: dict[str, Callable[[TableModel], Drafter]] = {
    "static": lambda target: ModelTreeDrafter(opposite(target), STATIC),
    "dynamic": lambda target: ModelTreeDrafter(opposite(target), DYNAMIC),
    "dynamic-similar": lambda target: ModelTreeDrafter(similar(target, 1), DYNAMIC),
    "dynamic-chosen": lambda target: ModelTreeDrafter(similar(target, 2), DYNAMIC, greedy=True),
    "suffix": lambda target: SuffixTreeDrafter(greedy=False),
    "suffix-chosen": lambda target: SuffixTreeDrafter(),
    "merged": lambda target: merged(target),
    "merged-chosen-first": lambda target: Merged(
        [ModelTreeDrafter(opposite(target), STATIC, greedy=True), ModelTreeDrafter(similar(target, 3), DYNAMIC)],
        rests=False,
    ),
    "merged-of-three": lambda target: Merged(
        [SuffixTreeDrafter(greedy=False), ModelDrafter(similar(target, 3)), ModelTreeDrafter(opposite(target), STATIC)],
        clock=iter(range(10**9)).__next__,
    ),
    "recycling-warm": lambda target: RecyclingDrafter(memory_of(opposite(target))),
    "merged-with-lookups": lambda target: Merged([lookups(), ModelTreeDrafter(opposite(target), STATIC)], rests=False),
    "chained": lambda target: Chained([SuffixDrafter(greedy=False), ModelTreeDrafter(opposite(target), DYNAMIC)]),
}


def merged(target: TableModel) -> Merged:
    """Of two drafters that often draw the same token."""
    return Merged(
        [ModelTreeDrafter(similar(target, 3), STATIC), ModelTreeDrafter(similar(target, 4), STATIC)], rests=False
    )


SAMPLINGS = {
    "1": SamplingParams(),
    "0.7": SamplingParams(temperature=0.7, repetition_penalty=1.3),
    "1.5": SamplingParams(temperature=1.5, top_p=0.97),
}
VOCABULARIES = (6, 8, 16)


SMALL = TableModel.random(6, 1, spread=1.2, seed=41)


@dataclass(frozen=True)
class Scenario:
    drafter: Callable[[TableModel], Drafter]
    target: TableModel = SMALL
    sampling: SamplingParams = SAMPLINGS["1"]
    nodes: int = 7
    draws: int = 1_500
    length: int = LENGTH

    def open(self) -> Draws:
        decoder = SpeculativeDecoder(self.drafter(self.target), self.target, self.nodes)
        return Draws(decoder, PROMPT, self.length, self.sampling, max_tokens=self.length + 3)

    def truth(self) -> dict[Outcome, float]:
        return joint_distribution(self.target, PROMPT, self.length, self.sampling)

    def p_value(self) -> float:
        """Of the draws, of which many drafts are rejected."""
        draws = self.open()
        p = p_of_output(draws, self.truth(), self.draws)
        assert many_rejected(draws.sample)
        return p


def many_rejected(sample: Sample) -> bool:
    return 0 < sample.accepted < 0.65 * sample.drafted


CASES = [(drafter, "1") for drafter in DRAFTERS]
CASES += [(drafter, ("0.7", "1.5")[number % 2]) for number, drafter in enumerate(DRAFTERS)]


@pytest.mark.parametrize("number, case", list(enumerate(CASES)), ids=["-".join(case) for case in CASES])
def test_the_output_has_the_targets_distribution(number: int, case: tuple[str, str]) -> None:
    drafter, sampling = case
    vocab_size = VOCABULARIES[number % len(VOCABULARIES)]
    target = TableModel.random(vocab_size, 1, spread=1.2, seed=100 + number)
    assert Scenario(DRAFTERS[drafter], target, SAMPLINGS[sampling]).p_value() > THRESHOLD


@pytest.mark.parametrize("number, drafter", list(enumerate(DRAFTERS)))
def test_under_coupled_every_text_is_that_of_plain_decoding(number: int, drafter: str) -> None:
    vocab_size = VOCABULARIES[number % len(VOCABULARIES)]
    target = TableModel.random(vocab_size, 1, spread=1.2, seed=120 + number)
    sample = texts_of(SpeculativeDecoder(DRAFTERS[drafter](target), target, 7, rule="coupled"), PROMPT, SAMPLINGS["1"])
    assert many_rejected(sample)
    assert sample.texts == plain_texts(target, PROMPT, SAMPLINGS["1"])


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_greedy_output_is_that_of_plain_decoding(drafter: str) -> None:
    target = TableModel.random(16, 2, seed=7)
    greedy = SamplingParams(temperature=0)
    plain = SpeculativeDecoder(None, target).generate(PROMPT, max_tokens=40, sampling=greedy)
    drafted = SpeculativeDecoder(DRAFTERS[drafter](target), target, 9)
    assert drafted.generate(PROMPT, max_tokens=40, sampling=greedy).tokens == plain.tokens


class PositionedTable(TableModel):
    """A table whose logits depend on the position too."""

    def logits_after(self, context):
        return np.roll(super().logits_after(context), len(context))

    def last_logits(self, tokens, count):
        return np.stack([self.logits_after(tokens[:end]) for end in range(len(tokens) - count + 1, len(tokens) + 1)])


TARGET = TableModel.random(6, 2, spread=1.2, seed=42)
# What both drafters believe in and the target does not: drawn twice, and rejected twice.
RARE = TableModel(np.log([0.1, 0.4, 0.4, 0.04, 0.03, 0.03]))


FIRST = TableModel(np.log([0.8, 0.05, 0.05, 0.04, 0.03, 0.03]))
SECOND = TableModel(np.log([0.5, 0.37, 0.03, 0.04, 0.03, 0.03]))
ALIKE = TableModel(np.log([0.5, 0.3, 0.1, 0.04, 0.03, 0.03]))


def one_each(first: TableModel, second: TableModel, first_chooses: bool = False) -> Merged:
    """Two drafters of one token each."""
    one = StaticTree((1,))
    return Merged([ModelTreeDrafter(first, one, greedy=first_chooses), ModelTreeDrafter(second, one)], rests=False)


SCENARIOS = {
    "static": Scenario(lambda target: ModelTreeDrafter(similar(target, 3), STATIC)),
    "dynamic": Scenario(lambda target: ModelTreeDrafter(similar(target, 3), DYNAMIC)),
    "drawn-twice": Scenario(lambda target: one_each(FIRST, SECOND), target=RARE, nodes=2, length=1),
    "chosen-and-drawn": Scenario(lambda target: one_each(FIRST, SECOND, True), target=RARE, nodes=2, length=1),
    "alike": Scenario(lambda target: one_each(ALIKE, ALIKE), target=RARE, nodes=2, length=1),
    "long": Scenario(lambda target: ModelTreeDrafter(similar(target, 3), STATIC), target=TARGET, length=3),
    "positioned": Scenario(
        lambda target: ModelTreeDrafter(similar(target, 3), STATIC),
        target=PositionedTable(TableModel.random(6, 1, seed=43).table),
        length=3,
    ),
}
MISTAKES: list[tuple[str, Mistake]] = [
    ("static", mutations.tree_children_drawn_with_replacement),
    ("dynamic", mutations.tree_children_drawn_with_replacement),
    ("dynamic", mutations.drawn_children_ranked_by_what_they_are),
    ("drawn-twice", mutations.token_drawn_twice_tried_once),
    ("chosen-and-drawn", mutations.drawn_tokens_left_out_for_what_they_are),
    ("alike", mutations.drafters_share_their_draws),
    ("long", mutations.siblings_seen_through_the_mask),
    ("positioned", mutations.nodes_placed_by_their_index),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_a_mistake_none_is_found(name: str) -> None:
    assert SCENARIOS[name].p_value() > THRESHOLD


@pytest.mark.parametrize("name, mistake", MISTAKES, ids=lambda part: getattr(part, "__name__", part))
def test_a_mistake_is_found(name: str, mistake: Mistake) -> None:
    scenario = SCENARIOS[name]
    with mistake():
        draws = scenario.open()
        assert p_of_mistake(draws, scenario.truth(), scenario.draws) < THRESHOLD
    assert many_rejected(draws.sample)
