"""A draft model that believes the opposite of the target: nearly every token is a correction."""

import pytest

from exactness.draws import Draws, p_of_output, plain_texts, texts_of
from exactness.statistics import THRESHOLD, joint_distribution
from outrider import ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 20_000
PROMPT = (3,)


# Under `coupled` plain decoding stands for all drafters: its texts are counted, theirs are compared with them.
COUNTED = {"token": True, "block": True, "coupled": False}  # with a drafter
TARGET = TableModel.random(16, 1, spread=1.2, seed=16)
OPPOSITE = TableModel(-TARGET.table)


@pytest.mark.parametrize("rule", COUNTED)
def test_a_draft_model_with_the_opposite_logits(rule: str) -> None:
    drafter = ModelDrafter(OPPOSITE) if COUNTED[rule] else None
    decoder = SpeculativeDecoder(drafter, TARGET, 3, rule=rule)

    draws = Draws(decoder, PROMPT, 2, SamplingParams(), max_tokens=5)

    assert p_of_output(draws, joint_distribution(TARGET, PROMPT, 2, SamplingParams()), DRAWS) > THRESHOLD
    assert draws.sample.accepted <= 0.25 * draws.sample.drafted


def test_under_coupled_the_opposite_logits_change_no_text() -> None:
    sample = texts_of(SpeculativeDecoder(ModelDrafter(OPPOSITE), TARGET, 3, rule="coupled"), PROMPT, SamplingParams())
    assert sample.accepted < 0.25 * sample.drafted
    assert sample.texts == plain_texts(TARGET, PROMPT, SamplingParams())
