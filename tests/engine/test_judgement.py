"""Greedy choices that a pass has found already are not looked for again; few tokens are judged together."""

import math

import numpy as np
import pytest

from exactness.libraries import LIBRARIES, array_maker
from outrider import ModelError
from outrider.engine import judgement
from outrider.engine.judgement import Verdicts, begin
from outrider.engine.sequence import ActiveSequence
from outrider.maths.arrays import on_host, top_of_logits
from outrider.maths.draft import Draft
from outrider.maths.rules import RULES
from outrider.maths.sampling import SamplingParams
from outrider.prompts.request import PreparedRequest
from outrider.runtimes.base import Top

ROWS, VOCABULARY = 4, 700


def sequence(**settings) -> ActiveSequence:
    sampling = SamplingParams(temperature=0, **settings)
    return ActiveSequence(0, PreparedRequest((1,), 8, sampling), 8, RULES["token"], 0, None)


@pytest.fixture(params=LIBRARIES)
def make(request):
    return array_maker(request.param)


def logits() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 9, (ROWS, VOCABULARY)).astype(np.float32)  # with ties


def judged(x, top: Top | None, **settings) -> Verdicts:
    return begin([Draft(())] * ROWS, x, [sequence(**settings)] * ROWS, [RULES["token"]] * ROWS, top)()


def tokens_of(x, top: Top | None, **settings) -> list[int]:
    verdicts = judged(x, top, **settings)
    return [verdict.token for verdict in verdicts]


def test_the_first_of_the_most_probable_tokens_is_the_greedy_choice(make) -> None:
    x = make(logits())
    top = Top(*top_of_logits(x, 3))
    assert tokens_of(x, top) == tokens_of(x, None) == logits().argmax(-1).tolist()
    other = Top(np.full((ROWS, 3), 6), top.probabilities)
    assert tokens_of(x, other) == ([6] * ROWS if on_host(x) else tokens_of(x, None))


def test_settings_that_change_logits_look_for_themselves(make) -> None:
    x = make(logits())
    top = Top(*top_of_logits(x, 3))
    assert tokens_of(x, top, logit_bias={5: 50.0}) == [5] * ROWS


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_with_a_bad_logit_fails_alone(make, bad: float) -> None:
    numbers = logits()
    numbers[2, 300] = bad
    x = make(numbers)
    top = Top(*top_of_logits(x, 3))
    verdicts = judged(x, top)
    assert [isinstance(verdict, ModelError) for verdict in verdicts] == [False, False, True, False]
    assert [verdicts[row].token for row in (0, 1, 3)] == numbers.argmax(-1)[[0, 1, 3]].tolist()


FILTERS = ({}, {"temperature": 0.7}, {"temperature": 1.5, "top_k": 5}, {"top_p": 0.8}, {"min_p": 0.1})


@pytest.mark.parametrize("settings", FILTERS, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_rows_of_few_tokens_are_judged_together_as_by_themselves(rule, settings, monkeypatch) -> None:
    generator = np.random.default_rng(1)
    drafts, sequences = [], []
    for seed in range(40):
        count = seed % 4
        q = generator.dirichlet(np.ones(6), count).astype(np.float32) if seed % 3 and count else None
        drafts.append(Draft(tuple(generator.integers(0, 6, count).tolist()), q=q))
        prepared = PreparedRequest((1,), 8, SamplingParams(**settings))
        sequences.append(ActiveSequence(seed, prepared, 8, RULES[rule], seed, None))
    x = generator.normal(0, 1.5, (sum(1 + len(draft) for draft in drafts), 6)).astype(np.float32)
    found = []
    for few in (6, 5):
        monkeypatch.setattr(judgement, "FEW_TOKENS", few)
        found.append(begin(drafts, x, sequences, [RULES[rule]] * len(drafts))())
    assert found[0] == found[1]
    assert {len(verdict.path) for verdict in found[0]} >= {0, 1}


def test_a_row_with_a_bad_logit_fails_alone_among_few_tokens() -> None:
    x = np.zeros((3, 6), dtype=np.float32)
    x[1, 2] = math.nan
    sequences = [ActiveSequence(0, PreparedRequest((1,), 8, SamplingParams()), 8, RULES["token"], 0, None)] * 3
    verdicts = begin([Draft(())] * 3, x, sequences, [RULES["token"]] * 3)()
    assert [isinstance(verdict, ModelError) for verdict in verdicts] == [False, True, False]
