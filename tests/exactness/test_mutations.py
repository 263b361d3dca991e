"""The checks have teeth: every planted mistake makes a chi-square test fail that passes without it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from exactness import mutations
from exactness.drafters import TreeDrafter
from exactness.draws import Draws, p_of_mistake, p_of_output
from exactness.mutations import Mistake
from exactness.policies import Sometimes
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from outrider import (
    Drafter,
    Fixed,
    LookaheadPolicy,
    ModelDrafter,
    SamplingParams,
    SpeculativeDecoder,
    TableModel,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

TARGET = TableModel.random(4, 2, spread=1.5, seed=31)
OTHER = TableModel(TableModel.random(4, 2, spread=1.0, seed=32).table, name="draft")
# q does not depend on the text, so that the draft of one round resembles that of the next.
FLAT = TableModel.random(3, 1, spread=0.6, seed=0)
SKEWED = TableModel(np.array([1.5, 0.0, 0.0]))
# A first token is often held good at a middling ratio, where the residuals of token and block differ.
UNEVEN = TableModel(np.log([[0.4, 0.4, 0.2], [0.45, 0.05, 0.5], [0.3, 0.55, 0.15]]))
STEEP = TableModel(np.log([[0.25, 0.25, 0.5], [0.05, 0.65, 0.3], [0.05, 0.9, 0.05]]))
# Two tokens are left after a rejection, and the draft very nearly drew one of them.
FEW = TableModel(np.log([0.05, 0.5, 0.45]))
FEWER = TableModel(np.log([0.6, 0.39, 0.01]))
PROMPT = (0, 1, 2)
PLAIN = SamplingParams()


@dataclass(frozen=True)
class Scenario:
    rule: str
    drafter: Callable[[], Drafter]
    target: TableModel = TARGET
    lookahead: int = 2
    length: int = 3
    sampling: SamplingParams = PLAIN
    draws: int = 3_000

    def open(self) -> Draws:
        decoder = SpeculativeDecoder(self.drafter(), self.target, self.lookahead, rule=self.rule)
        return Draws(decoder, PROMPT, self.length, self.sampling, max_tokens=self.length + self.lookahead)

    def truth(self) -> dict[Outcome, float]:
        return joint_distribution(self.target, PROMPT, self.length, self.sampling)


SCENARIOS = {
    "token": Scenario("token", lambda: ModelDrafter(OTHER)),
    "block": Scenario("block", lambda: ModelDrafter(OTHER)),
    "coupled": Scenario("coupled", lambda: ModelDrafter(OTHER)),
    "tree": Scenario("token", lambda: TreeDrafter(OTHER, 2), lookahead=6),
    "few-token": Scenario("token", lambda: ModelDrafter(FEWER), FEW, lookahead=1, length=1),
    "few-tree": Scenario("token", lambda: TreeDrafter(FEWER, 2), FEW, length=1),
    "few-block": Scenario("block", lambda: ModelDrafter(FEWER), FEW, lookahead=1, length=1),
    "flat-block": Scenario("block", lambda: ModelDrafter(SKEWED), FLAT, lookahead=3),
    "uneven-block": Scenario("block", lambda: ModelDrafter(STEEP), UNEVEN, length=2, draws=4_000),
    "penalties": Scenario(
        "token",
        lambda: ModelDrafter(OTHER),
        sampling=SamplingParams(repetition_penalty=2.0, presence_penalty=1.0),
        draws=1_000,
    ),
}
CASES: list[tuple[str, Mistake]] = [
    ("token", mutations.draft_drawn_at_another_temperature),
    ("block", mutations.draft_drawn_at_another_temperature),
    ("token", mutations.most_probable_token_drafted_as_if_sampled),
    ("block", mutations.most_probable_token_drafted_as_if_sampled),
    ("token", mutations.drawn_token_left_out_when_it_is_token_0),
    ("block", mutations.drawn_token_left_out_when_it_is_token_0),
    ("tree", mutations.children_drawn_with_replacement),
    ("few-token", mutations.next_token_drawn_with_the_drafts_noise),
    ("few-block", mutations.next_token_drawn_with_the_drafts_noise),
    ("token", mutations.acceptance_decided_by_the_drafts_noise),
    ("block", mutations.acceptance_decided_by_the_drafts_noise),
    ("token", mutations.one_uniform_for_the_whole_round),
    ("flat-block", mutations.one_uniform_for_the_whole_round),
    ("tree", mutations.one_uniform_for_the_whole_round),
    ("flat-block", mutations.round_start_left_out_of_the_key),
    ("coupled", mutations.same_target_noise_at_every_position),
    ("token", mutations.residual_replaced_by_the_target),
    ("tree", mutations.residual_replaced_by_the_target),
    ("tree", mutations.residual_not_normalised),
    ("block", mutations.block_residual_replaced_by_the_target),
    ("uneven-block", mutations.block_residual_of_the_token_rule),
    ("few-tree", mutations.sibling_judged_by_the_first_childs_q),
    ("token", mutations.bonus_drawn_from_q),
    ("block", mutations.bonus_drawn_from_q),
    ("coupled", mutations.bonus_drawn_from_q),
    ("token", mutations.bonus_drawn_from_the_row_before),
    ("block", mutations.bonus_drawn_from_the_row_before),
    ("token", mutations.rows_of_the_target_off_by_one),
    ("block", mutations.rows_of_the_target_off_by_one),
    ("coupled", mutations.rows_of_the_target_off_by_one),
    ("tree", mutations.rows_of_the_target_off_by_one),
    ("token", mutations.every_row_taken_for_the_one_made_first),
    ("block", mutations.every_row_taken_for_the_one_made_first),
    ("coupled", mutations.every_row_taken_for_the_one_made_first),
    ("coupled", mutations.race_won_by_the_bound),
    ("block", mutations.longer_prefixes_given_up_where_the_draft_is_unlikely),
    ("penalties", mutations.penalties_forgotten_along_the_draft),
    ("token", mutations.cache_holds_another_token),
    ("coupled", mutations.cache_holds_another_token),
    ("token", mutations.cache_keeps_a_rejected_token),
    ("coupled", mutations.cache_keeps_a_rejected_token),
]


@pytest.mark.parametrize("name", SCENARIOS)
def test_without_a_mistake_none_is_found(name: str) -> None:
    scenario = SCENARIOS[name]
    assert p_of_output(scenario.open(), scenario.truth(), scenario.draws) > THRESHOLD


@pytest.mark.parametrize("name, mistake", CASES, ids=lambda part: getattr(part, "__name__", part))
def test_a_mistake_is_found(name: str, mistake: Mistake) -> None:
    scenario = SCENARIOS[name]
    with mistake():
        assert p_of_mistake(scenario.open(), scenario.truth(), scenario.draws) < THRESHOLD


POLICIES: dict[str, Callable[[], LookaheadPolicy]] = {
    "always 1": lambda: Fixed(1),
    "always 4": lambda: Fixed(4),
    "sometimes": Sometimes,
}


def acceptance_of_the_target_by_itself(rule: str, lookahead: LookaheadPolicy) -> float:
    decoder = SpeculativeDecoder(ModelDrafter(TARGET), TARGET, lookahead, rule=rule)
    texts = [decoder.generate(PROMPT, max_tokens=40, sampling=SamplingParams(seed=seed)) for seed in range(20)]
    return sum(text.stats.accepted for text in texts) / sum(text.stats.drafted for text in texts)


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("policy", POLICIES, ids=POLICIES)
def test_a_drafter_that_is_the_target_is_always_accepted(rule: str, policy: str) -> None:
    """A draft cache that went stale would not make the output wrong, only seldom accepted."""
    assert acceptance_of_the_target_by_itself(rule, POLICIES[policy]()) == 1


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("policy", ["always 4", "sometimes"])
def test_a_stale_draft_cache_is_found(rule: str, policy: str) -> None:
    with mutations.draft_cache_not_caught_up():
        assert acceptance_of_the_target_by_itself(rule, POLICIES[policy]()) < 0.9
