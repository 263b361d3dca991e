"""The same decoder over PyTorch and MLX arrays, from logits to verdict."""

import pytest

from exactness.drafters import similar
from exactness.draws import draw_outputs
from exactness.libraries import array_maker
from exactness.statistics import THRESHOLD, joint_distribution, p_value
from outrider import FunctionModel, ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 2_000
PROMPT = (0, 1)
SAMPLING = SamplingParams(temperature=0.8, top_p=0.95, repetition_penalty=1.3)


def over_arrays(library: str, table: TableModel) -> FunctionModel:
    """A function of tokens to logits, in arrays of the library on both sides."""
    make_array = array_maker(library)
    logits = make_array(table.table)

    def function(tokens):
        return logits[tokens[0]]  # the table looks back by one token

    return FunctionModel(function, make_array=lambda tokens: make_array([tokens]), name=library)


@pytest.mark.parametrize("rule", ["token", "block"])
@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_a_model_of_another_library(library: str, rule: str) -> None:
    target = TableModel.random(5, 1, spread=1.2, seed=3)
    drafter = ModelDrafter(over_arrays(library, similar(target, seed=4)))
    decoder = SpeculativeDecoder(drafter, over_arrays(library, target), 2, rule=rule)

    sample = draw_outputs(decoder, PROMPT, 2, SAMPLING, DRAWS, max_tokens=4)

    assert sample.accepted > 0
    assert p_value(sample.counts, joint_distribution(target, PROMPT, 2, SAMPLING)) > THRESHOLD


def test_draft_and_target_of_different_libraries() -> None:
    target = TableModel.random(5, 1, spread=1.2, seed=5)
    drafter = ModelDrafter(similar(target, seed=6))
    decoder = SpeculativeDecoder(drafter, over_arrays("torch", target), 2)

    sample = draw_outputs(decoder, PROMPT, 2, SAMPLING, DRAWS, max_tokens=4)

    assert sample.accepted > 0
    assert p_value(sample.counts, joint_distribution(target, PROMPT, 2, SAMPLING)) > THRESHOLD
