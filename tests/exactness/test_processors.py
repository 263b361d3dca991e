"""Logits processors, grammars among them, are exact along chains and trees, under every rule and in every library."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from exactness import mutations
from exactness.drafters import DRAFTERS, lookups, memory_of, similar
from exactness.draws import Draws, p_of_output, plain_texts, texts_of
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from exactness.test_array_libraries import over_arrays
from outrider import (
    Drafter,
    InputError,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    SamplingParams,
    SpeculativeDecoder,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.maths.processors import process

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

VOCABULARY = 5
PROMPT = (0, 1, 2, 0, 1)
DRAWS = 800


def grammar(output, logits):
    """No token twice in a row, no two whose sum is a multiple of 3, and a beginning of 0, 1 or 2."""
    if output:
        banned = [token == output[-1] or (token + output[-1]) % 3 == 0 for token in range(VOCABULARY)]
    else:
        banned = [token > 2 for token in range(VOCABULARY)]
    return _plus(logits, [-math.inf if each else 0.0 for each in banned])


def watermark(output, logits):
    """Lifts a token that depends on the whole output."""
    return _plus(logits, [1.5 * (token == sum(output) % VOCABULARY) for token in range(VOCABULARY)])


def _plus(logits, numbers):
    if isinstance(logits, np.ndarray):
        return logits + np.array(numbers, dtype=logits.dtype)
    if type(logits).__module__.startswith("torch"):
        return logits + logits.new_tensor(numbers)
    import mlx.core as mx

    return logits + mx.array(numbers)


SAMPLING = SamplingParams(temperature=0.9, repetition_penalty=1.2, logits_processors=(grammar, watermark))
TREES: dict[str, Callable[[TableModel, TableModel], Drafter]] = {
    "model-tree": lambda target, draft: ModelTreeDrafter(draft),
    "suffix-tree": lambda target, draft: SuffixTreeDrafter(greedy=False),
    "lookup-tree": lambda target, draft: lookups(memory_of(draft)),
    "merged": lambda target, draft: Merged([ModelDrafter(draft), ModelTreeDrafter(target)], rests=False),
}
CHAINS = {name: DRAFTERS[name] for name in ("model", "greedy-model", "suffix", "greedy-suffix")}
CASES = [("token", name) for name in (*CHAINS, *TREES)]
CASES += [("block", name) for name in ("model", "suffix")]


def p_of(rule: str, drafter: Drafter, target: TableModel, draws: int = DRAWS) -> float:
    drawing = Draws(SpeculativeDecoder(drafter, target, 5, rule=rule), PROMPT, 3, SAMPLING, max_tokens=6)
    p = p_of_output(drawing, joint_distribution(target, PROMPT, 3, SAMPLING), draws)
    assert drawing.sample.drafted > 0
    return p


@pytest.mark.parametrize("rule, name", CASES)
def test_the_output_has_the_distribution_that_the_processors_make(rule: str, name: str) -> None:
    target = TableModel.random(VOCABULARY, 2, spread=1.2, seed=71)
    drafter = (CHAINS | TREES)[name](target, similar(target, seed=72))
    assert p_of(rule, drafter, target) > THRESHOLD


def test_plain_decoding_under_coupled_has_the_distribution_that_the_processors_make() -> None:
    target = TableModel.random(VOCABULARY, 2, spread=1.2, seed=71)
    draws = Draws(SpeculativeDecoder(None, target, rule="coupled"), PROMPT, 3, SAMPLING)
    assert p_of_output(draws, joint_distribution(target, PROMPT, 3, SAMPLING), DRAWS) > THRESHOLD


@cache
def plain() -> dict[int, Outcome]:
    return plain_texts(TableModel.random(VOCABULARY, 2, spread=1.2, seed=71), PROMPT, SAMPLING)


@pytest.mark.parametrize("name", [*CHAINS, *TREES])
def test_under_coupled_every_text_is_that_of_plain_decoding(name: str) -> None:
    target = TableModel.random(VOCABULARY, 2, spread=1.2, seed=71)
    drafter = (CHAINS | TREES)[name](target, similar(target, seed=72))
    sample = texts_of(SpeculativeDecoder(drafter, target, 5, rule="coupled"), PROMPT, SAMPLING)
    assert sample.drafted > 0
    assert sample.texts == plain()


@pytest.mark.parametrize("rule", ["token", "coupled"])
@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_processors_are_given_arrays_of_the_models_library(library: str, rule: str) -> None:
    target = TableModel.random(VOCABULARY, 1, spread=1.2, seed=73)
    draft = similar(target, seed=74)
    sample, in_numpy = (
        texts_of(SpeculativeDecoder(ModelTreeDrafter(small), large, 5, rule=rule), PROMPT, SAMPLING, texts=32)
        for small, large in ((over_arrays(library, draft), over_arrays(library, target)), (draft, target))
    )
    assert 0 < sample.accepted < sample.drafted
    assert sample.texts == in_numpy.texts


@pytest.mark.parametrize("name", ["model", "suffix", "model-tree"])
def test_a_processor_that_forgets_the_draft_is_found(name: str) -> None:
    target = TableModel.random(VOCABULARY, 2, spread=1.2, seed=71)
    drafter = (CHAINS | TREES)[name](target, similar(target, seed=72))
    with mutations.penalties_forgotten_along_the_draft():
        assert p_of("token", drafter, target, draws=500) < THRESHOLD


@pytest.mark.parametrize("name", [*CHAINS, *TREES])
def test_greedy_text_follows_the_grammar_whatever_drafts(name: str) -> None:
    target = TableModel.random(VOCABULARY, 2, spread=1.2, seed=75)
    greedy = SamplingParams(temperature=0, logits_processors=(grammar, watermark))
    plain = SpeculativeDecoder(None, target).generate(PROMPT, max_tokens=40, sampling=greedy).tokens
    drafter = (CHAINS | TREES)[name](target, similar(target, seed=76))
    found = SpeculativeDecoder(drafter, target, 6).generate(PROMPT, max_tokens=40, sampling=greedy)
    assert found.tokens == plain
    assert found.stats.drafted > 0
    for place, token in enumerate(plain):
        assert grammar(plain[:place], np.zeros(VOCABULARY))[token] == 0


def test_nothing_is_asked_about_a_text_that_is_banned() -> None:
    asked = []

    def only_rising(output, logits):
        asked.append(tuple(output))
        return logits if not output else np.where(np.arange(VOCABULARY) > output[-1], logits, -np.inf)

    logits = np.zeros((5, VOCABULARY), dtype=np.float32)
    found = process(logits, [only_rising], [1], [(), (0,), (3,), (0, 4), (3, 4)])
    assert asked == [(1,), (1, 3), (1, 3, 4)]
    assert np.isfinite(found).sum(axis=1).tolist() == [3, 5, 1, 5, 0]  # those that are banned stay as they were


def test_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"returned shape \(3,\): return logits of shape \(5,\)"):
        process(np.zeros((1, 5), dtype=np.float32), [lambda output, logits: logits[:3]], [], [()])
