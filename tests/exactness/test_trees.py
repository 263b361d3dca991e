"""Trees of candidates: whatever grows them, the output has the target's distribution, though most are rejected."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from exactness import mutations
from exactness.drafters import similar
from exactness.mutations import Mistake
from exactness.statistics import THRESHOLD, draw_outputs, joint_distribution, p_value
from outrider import (
    Drafter,
    DynamicTree,
    ModelTreeDrafter,
    SamplingParams,
    SpeculativeDecoder,
    StaticTree,
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
}
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
    rule: str = "token"
    target: TableModel = SMALL
    sampling: SamplingParams = SAMPLINGS["1"]
    nodes: int = 7
    draws: int = 1_500
    length: int = LENGTH

    def p_value(self, draws: int) -> float:
        decoder = SpeculativeDecoder(self.drafter(self.target), self.target, self.nodes, rule=self.rule)
        sample = draw_outputs(decoder, PROMPT, self.length, self.sampling, draws, max_tokens=self.length + 3)
        assert 0 < sample.accepted < 0.5 * sample.drafted
        return p_value(sample.counts, joint_distribution(self.target, PROMPT, self.length, self.sampling))


CASES = [("token", drafter, sampling) for drafter in DRAFTERS for sampling in SAMPLINGS]
CASES += [("coupled", drafter, "1") for drafter in DRAFTERS]


@pytest.mark.parametrize("number, case", list(enumerate(CASES)), ids=["-".join(case) for case in CASES])
def test_the_output_has_the_targets_distribution(number: int, case: tuple[str, str, str]) -> None:
    rule, drafter, sampling = case
    vocab_size = VOCABULARIES[number % len(VOCABULARIES)]
    target = TableModel.random(vocab_size, 1, spread=1.2, seed=100 + number)
    scenario = Scenario(DRAFTERS[drafter], rule, target, SAMPLINGS[sampling])
    assert scenario.p_value(scenario.draws) > THRESHOLD


@pytest.mark.parametrize("rule", ["token", "coupled"])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_greedy_output_is_that_of_plain_decoding(rule: str, drafter: str) -> None:
    target = TableModel.random(16, 2, seed=7)
    greedy = SamplingParams(temperature=0)
    plain = SpeculativeDecoder(None, target).generate(PROMPT, max_tokens=40, sampling=greedy)
    drafted = SpeculativeDecoder(DRAFTERS[drafter](target), target, 9, rule=rule)
    assert drafted.generate(PROMPT, max_tokens=40, sampling=greedy).tokens == plain.tokens


class PositionedTable(TableModel):
    """A table whose logits depend on the position too."""

    def logits_after(self, context):
        return np.roll(super().logits_after(context), len(context))

    def last_logits(self, tokens, count):
        return np.stack([self.logits_after(tokens[:end]) for end in range(len(tokens) - count + 1, len(tokens) + 1)])


TARGET = TableModel.random(6, 2, spread=1.2, seed=42)
SCENARIOS = {
    "static": Scenario(lambda target: ModelTreeDrafter(similar(target, 3), STATIC)),
    "dynamic": Scenario(lambda target: ModelTreeDrafter(similar(target, 3), DYNAMIC)),
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
    ("long", mutations.siblings_seen_through_the_mask),
    ("positioned", mutations.nodes_placed_by_their_index),
]


@pytest.mark.parametrize("name, mistake", MISTAKES, ids=lambda part: getattr(part, "__name__", part))
def test_a_mistake_is_found(name: str, mistake: Mistake) -> None:
    scenario = SCENARIOS[name]
    assert scenario.p_value(scenario.draws) > THRESHOLD
    with mistake():
        assert scenario.p_value(scenario.draws) < THRESHOLD
