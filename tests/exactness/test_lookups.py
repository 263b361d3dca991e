"""Lookups are choices: whatever they know, and whoever they know it from, the output has the target's distribution."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from exactness import mutations
from exactness.drafters import lookups, memory_of
from exactness.draws import LOOKS, Draws, p_of_mistake, p_of_output
from exactness.mutations import Mistake
from exactness.policies import Priced
from exactness.statistics import THRESHOLD, Outcome, joint_distribution, p_of_stages
from outrider import (
    Drafter,
    LookaheadPolicy,
    LookupDrafter,
    RecyclingDrafter,
    RecyclingMemory,
    SamplingParams,
    SpeculativeDecoder,
    SuffixDrafter,
    TableModel,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

PROMPT = (3, 1, 2, 3, 1, 4, 3, 1)
LENGTH = 3
TARGET = TableModel.random(6, 2, spread=1.2, seed=61)
SHORT = TableModel.random(6, 1, spread=1.2, seed=62)
OPPOSITE = TableModel(-TARGET.table)
STEEP = (0.0, 0.25, 0.6, 1.0, 1.4, 1.9)
STEP = (0.0, 0.5, 0.5, 0.5, 1.5, 1.5)


@dataclass(frozen=True)
class Scenario:
    rule: str = "token"
    trees: bool = True
    target: TableModel = TARGET
    memory: RecyclingMemory | None = None
    lookahead: int | LookaheadPolicy = 7
    length: int = LENGTH
    draws: int = 1_200

    def open(self) -> Draws:
        return draws_of(lookups(self.memory, trees=self.trees), self)

    def truth(self) -> dict[Outcome, float]:
        return joint_distribution(self.target, PROMPT, self.length, SamplingParams())


def draws_of(drafter: Drafter, scenario: Scenario) -> Draws:
    decoder = SpeculativeDecoder(drafter, scenario.target, scenario.lookahead, rule=scenario.rule)
    return Draws(decoder, PROMPT, scenario.length, SamplingParams(), max_tokens=scenario.length + 3)


SCENARIOS = {
    "tree": Scenario(),
    "wrong-tree": Scenario(memory=memory_of(OPPOSITE)),
    "chain": Scenario(trees=False, lookahead=4),
    "block": Scenario("block", trees=False, lookahead=4),
    "short": Scenario(target=SHORT, length=2),
    "forgetful": Scenario(memory=RecyclingMemory(3), target=SHORT, length=2),
    "prices": Scenario(lookahead=Priced(STEEP, STEP, (0.0,))),
    "prices-block": Scenario("block", trees=False, lookahead=Priced(STEEP, STEP)),
}
MISTAKES: list[tuple[str, Mistake]] = [
    ("tree", mutations.looked_up_tokens_said_to_be_drawn),
    ("block", mutations.looked_up_tokens_said_to_be_drawn),
    ("tree", mutations.looked_up_where_it_will_be_accepted),
    ("chain", mutations.looked_up_where_it_will_be_accepted),
    ("block", mutations.looked_up_where_it_will_be_accepted),
    ("tree", mutations.tree_read_as_a_chain),
    ("tree", mutations.siblings_seen_through_the_mask),
    ("tree", mutations.rows_of_a_tree_taken_by_depth),
    ("tree", mutations.rows_of_the_target_off_by_one),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_output_has_the_targets_distribution(name: str) -> None:
    scenario = SCENARIOS[name]
    draws = scenario.open()
    assert p_of_output(draws, scenario.truth(), scenario.draws) > THRESHOLD
    assert 0 < draws.sample.accepted < 0.65 * draws.sample.drafted


@pytest.mark.parametrize("name, mistake", MISTAKES, ids=lambda part: getattr(part, "__name__", part))
def test_a_mistake_is_found(name: str, mistake: Mistake) -> None:
    scenario = SCENARIOS[name]
    with mistake():
        assert p_of_mistake(scenario.open(), scenario.truth(), scenario.draws) < THRESHOLD


def test_learning_from_the_wrong_rows_makes_drafts_worse_and_nothing_else() -> None:
    right, scenario = SCENARIOS["tree"].open().more(500), SCENARIOS["tree"]
    with mutations.top_tokens_of_another_node():
        draws = scenario.open()
        assert p_of_output(draws, scenario.truth(), scenario.draws) > THRESHOLD
    assert draws.sample.accepted / draws.sample.drafted < 0.95 * right.accepted / right.drafted


def test_nodes_may_be_left_out_once_they_were_looked_at() -> None:
    """They are chosen, not drawn."""
    scenario = SCENARIOS["short"]
    draws = draws_of(RecyclingDrafter(memory_of(SHORT), min_chance=0.2), scenario)
    assert p_of_output(draws, scenario.truth(), scenario.draws) > THRESHOLD
    few = draws.sample
    many = draws_of(LookupDrafter(), scenario).more(200)
    assert few.drafted / few.counts.total() < 0.8 * many.drafted / 200


def p_of_texts_expected_from_their_own_seed(rule: str, looks: Sequence[float] = ()) -> float:
    decoder = SpeculativeDecoder(SuffixDrafter(min_survival=0), SHORT, 3, rule=rule)
    counts: Counter[Outcome] = Counter()

    def first(draws: int) -> Counter[Outcome]:
        for seed in range(counts.total(), draws):
            sampling = SamplingParams(seed=seed)
            once = decoder.generate(PROMPT, max_tokens=4, sampling=sampling)
            again = decoder.generate(PROMPT, max_tokens=4, sampling=sampling, predicted=[*PROMPT, *once.tokens])
            counts[tuple(again.tokens[:2])] += 1
        return counts

    return p_of_stages(first, joint_distribution(SHORT, PROMPT, 2, SamplingParams()), 500, looks)


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_a_text_may_be_expected_that_the_same_seed_made(rule: str) -> None:
    assert p_of_texts_expected_from_their_own_seed(rule) > THRESHOLD


@pytest.mark.parametrize("rule", ["token", "block"])
def test_a_draft_that_knows_the_noise_it_is_judged_by_is_found(rule: str) -> None:
    with mutations.experience_left_out_of_the_key():
        assert p_of_texts_expected_from_their_own_seed(rule, LOOKS) < THRESHOLD
