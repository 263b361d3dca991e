"""A draft model that stops when it loses confidence: after a token it has seen, which stays in the draft."""

import pytest

from exactness.draws import Draws, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.statistics import THRESHOLD, joint_distribution
from outrider import Draft, ModelDrafter, SamplingParams, SettingError, SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 4_000
PROMPT = (3,)
LENGTH = 2
TARGET = TableModel.random(8, 1, spread=1.2, seed=16)
OPPOSITE = TableModel(-TARGET.table)
OTHER = TableModel(0.4 * TARGET.table + TableModel.random(8, 1, spread=1.2, seed=17).table)


class Drops(ModelDrafter):
    """The mistake: the token at which confidence is lost is looked at and left out."""

    def propose(self, sequences, budgets):
        return [
            Draft(draft.tokens[:-1], q=draft.q[:-1] if len(draft) > 1 else None)
            if 0 < len(draft) < budget.longest
            else draft
            for draft, budget in zip(super().propose(sequences, budgets), budgets, strict=True)
        ]


TRUTH = joint_distribution(TARGET, PROMPT, LENGTH, SamplingParams())


def draws_of(drafter: ModelDrafter, rule: str) -> Draws:
    decoder = SpeculativeDecoder(drafter, TARGET, 4, rule=rule)
    return Draws(decoder, PROMPT, LENGTH, SamplingParams(), max_tokens=6)


@pytest.mark.parametrize(("rule", "draft"), [("token", OPPOSITE), ("block", OPPOSITE), ("block", OTHER)])
def test_stopping_after_a_token_is_exact(rule: str, draft: TableModel) -> None:
    draws = draws_of(ModelDrafter(draft, min_survival=0.15), rule)
    assert p_of_output(draws, TRUTH, DRAWS) > THRESHOLD
    unstopped = draws_of(ModelDrafter(draft), rule).more(200)
    assert draws.sample.drafted / draws.sample.counts.total() < 0.8 * unstopped.drafted / 200


def test_under_coupled_stopping_changes_no_text() -> None:
    stopping, going_on = (
        texts_of(SpeculativeDecoder(drafter, TARGET, 4, rule="coupled"), PROMPT, SamplingParams())
        for drafter in (ModelDrafter(OTHER, min_survival=0.15), ModelDrafter(OTHER))
    )
    assert stopping.drafted < 0.8 * going_on.drafted
    assert stopping.texts == going_on.texts == plain_texts(TARGET, PROMPT, SamplingParams())


@pytest.mark.parametrize("rule", ["token", "block"])
def test_leaving_the_last_token_out_is_not(rule: str) -> None:
    assert p_of_mistake(draws_of(Drops(OTHER, min_survival=0.15), rule), TRUTH, DRAWS) < THRESHOLD


def test_greedy_drafts_stop_by_the_models_own_probability() -> None:
    decoder = SpeculativeDecoder(ModelDrafter(OTHER, min_survival=0.3), TARGET, 8, rule="coupled")
    greedy = SamplingParams(temperature=0)
    short = decoder.generate(PROMPT, max_tokens=40, sampling=greedy)
    long = SpeculativeDecoder(ModelDrafter(OTHER), TARGET, 8, rule="coupled").generate(
        PROMPT, max_tokens=40, sampling=greedy
    )
    assert short.tokens == long.tokens
    assert 0 < short.stats.drafted < long.stats.drafted


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(SettingError, match="min_survival is 2"):
        ModelDrafter(OTHER, min_survival=2)
