"""The checks have teeth: every planted mistake makes a chi-square test fail that passes without it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from exactness import mutations
from exactness.drafters import TreeDrafter
from exactness.mutations import Mistake
from exactness.statistics import THRESHOLD, draw_outputs, joint_distribution, p_value

from outrider import Drafter, Generation, ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

TARGET = TableModel.random(4, 2, spread=1.5, seed=31)
TARGET.name = "target"
OPPOSITE = TableModel(-TARGET.table, name="draft")
OTHER = TableModel.random(4, 2, spread=1.0, seed=32)
PROMPT = (0, 1, 2)


@dataclass(frozen=True)
class Scenario:
    rule: str
    drafter: Callable[[], Drafter]
    lookahead: int = 2
    length: int = 3
    sampling: SamplingParams = SamplingParams()
    draws: int = 3_000

    def p_value(self) -> float:
        decoder = SpeculativeDecoder(self.drafter(), TARGET, self.lookahead, rule=self.rule)
        max_tokens = self.length + self.lookahead
        sample = draw_outputs(decoder, PROMPT, self.length, self.sampling, self.draws, max_tokens=max_tokens)
        return p_value(sample.counts, joint_distribution(TARGET, PROMPT, self.length, self.sampling))


SCENARIOS = {
    "token": Scenario("token", lambda: ModelDrafter(OTHER)),
    "block": Scenario("block", lambda: ModelDrafter(OTHER)),
    "coupled": Scenario("coupled", lambda: ModelDrafter(OTHER)),
    "tree": Scenario("token", lambda: TreeDrafter(OTHER, 2), lookahead=6),
    # Rejections are frequent, so that tokens and uniforms behind them come up for the second time.
    "stubborn block": Scenario("block", lambda: ModelDrafter(OPPOSITE), lookahead=3, length=4, draws=6_000),
    "penalties": Scenario(
        "token", lambda: ModelDrafter(OTHER), sampling=SamplingParams(repetition_penalty=2.0, presence_penalty=1.0)
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
    ("token", mutations.next_token_drawn_with_the_drafts_noise),
    ("block", mutations.next_token_drawn_with_the_drafts_noise),
    ("token", mutations.acceptance_decided_by_the_drafts_noise),
    ("block", mutations.acceptance_decided_by_the_drafts_noise),
    ("token", mutations.one_uniform_for_the_whole_round),
    ("block", mutations.one_uniform_for_the_whole_round),
    ("tree", mutations.one_uniform_for_the_whole_round),
    ("stubborn block", mutations.round_start_left_out_of_the_key),
    ("coupled", mutations.same_target_noise_at_every_position),
    ("token", mutations.residual_replaced_by_the_target),
    ("tree", mutations.residual_replaced_by_the_target),
    ("tree", mutations.residual_not_normalised),
    ("block", mutations.block_residual_replaced_by_the_target),
    ("block", mutations.block_residual_of_the_token_rule),
    ("tree", mutations.sibling_judged_by_the_first_childs_q),
    ("token", mutations.bonus_drawn_from_q),
    ("block", mutations.bonus_drawn_from_q),
    ("coupled", mutations.bonus_drawn_from_q),
    ("token", mutations.bonus_drawn_from_the_row_before),
    ("block", mutations.bonus_drawn_from_the_row_before),
    ("token", mutations.rows_of_the_target_off_by_one),
    ("block", mutations.rows_of_the_target_off_by_one),
    ("coupled", mutations.rows_of_the_target_off_by_one),
    ("tree", mutations.rows_of_the_target_off_by_one),
    ("penalties", mutations.penalties_forgotten_along_the_draft),
    ("token", mutations.cache_keeps_a_token_too_few),
    ("coupled", mutations.cache_keeps_a_token_too_few),
    ("token", mutations.cache_keeps_a_rejected_token),
    ("coupled", mutations.cache_keeps_a_rejected_token),
]


@cache
def p_value_without_mistake(name: str) -> float:
    return SCENARIOS[name].p_value()


@pytest.mark.parametrize("name, mistake", CASES, ids=lambda part: getattr(part, "__name__", part))
def test_a_mistake_is_found(name: str, mistake: Mistake) -> None:
    assert p_value_without_mistake(name) > THRESHOLD
    with mistake():
        found = SCENARIOS[name].p_value()
    if os.environ.get("SHOW_P_VALUES"):
        print(f"\n{found:10.1e} {p_value_without_mistake(name):10.1e} {name}: {mistake.__name__}")
    assert found < THRESHOLD
