"""A draft model that believes the opposite of the target: nearly every token is a correction."""

import pytest

from exactness.draws import draw_outputs
from exactness.statistics import THRESHOLD, joint_distribution, p_value
from outrider import ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 20_000
PROMPT = (3,)


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_a_draft_model_with_the_opposite_logits(rule: str) -> None:
    target = TableModel.random(16, 1, spread=1.2, seed=16)
    drafter = ModelDrafter(TableModel(-target.table))
    decoder = SpeculativeDecoder(drafter, target, 3, rule=rule)

    sample = draw_outputs(decoder, PROMPT, 2, SamplingParams(), DRAWS, max_tokens=5)

    assert sample.accepted < 0.25 * sample.drafted
    assert p_value(sample.counts, joint_distribution(target, PROMPT, 2, SamplingParams())) > THRESHOLD
