"""The same decoder over PyTorch and MLX arrays, from logits to verdict."""

from functools import cache

import pytest

from exactness.drafters import similar
from exactness.draws import Draws, p_of_output, texts_of
from exactness.libraries import array_maker
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from outrider import FunctionModel, ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 2_000
TEXTS = 32
PROMPT = (0, 1)
SAMPLING = SamplingParams(temperature=0.8, top_p=0.95, repetition_penalty=1.3)


def over_arrays(library: str, table: TableModel) -> FunctionModel:
    """A function of tokens to logits, in arrays of the library on both sides."""
    make_array = array_maker(library)
    logits = make_array(table.table)

    def function(tokens):
        return logits[tokens[0]]  # the table looks back by one token

    return FunctionModel(function, make_array=lambda tokens: make_array([tokens]), name=library)


TARGET, DRAFT = (
    TableModel.random(5, 1, spread=1.2, seed=3),
    similar(TableModel.random(5, 1, spread=1.2, seed=3), seed=4),
)


@pytest.mark.parametrize("rule", ["token", "block"])
def test_numpy_has_the_targets_distribution(rule: str) -> None:
    decoder = SpeculativeDecoder(ModelDrafter(DRAFT), TARGET, 2, rule=rule)
    draws = Draws(decoder, PROMPT, 2, SAMPLING, max_tokens=4)
    assert p_of_output(draws, joint_distribution(TARGET, PROMPT, 2, SAMPLING), DRAWS) > THRESHOLD
    assert draws.sample.accepted > 0


@cache
def texts_in_numpy(rule: str) -> dict[int, Outcome]:
    decoder = SpeculativeDecoder(ModelDrafter(DRAFT), TARGET, 2, rule=rule)
    return texts_of(decoder, PROMPT, SAMPLING, texts=TEXTS).texts


@pytest.mark.parametrize("rule", ["token", "block"])
@pytest.mark.parametrize("libraries", [("torch", "torch"), ("mlx", "mlx"), ("numpy", "torch")], ids="-".join)
def test_models_of_other_libraries_make_the_same_texts(libraries: tuple[str, str], rule: str) -> None:
    """The draft model's library, and the target's."""
    draft, target = (
        table if library == "numpy" else over_arrays(library, table)
        for library, table in zip(libraries, (DRAFT, TARGET), strict=True)
    )
    sample = texts_of(SpeculativeDecoder(ModelDrafter(draft), target, 2, rule=rule), PROMPT, SAMPLING, texts=TEXTS)
    assert 0 < sample.accepted < sample.drafted
    assert sample.texts == texts_in_numpy(rule)
