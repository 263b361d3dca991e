"""Drafting across tokenizers: the target's distribution, whatever the draft model's tokens are."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest

from exactness.draws import Draws, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.mutations import Mistake
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from outrider import (
    Draft,
    Drafter,
    IntersectionDrafter,
    SamplingParams,
    SpeculativeDecoder,
    StringDrafter,
    TableModel,
)
from outrider.drafters.across.maps import Intersection
from outrider.drafters.chains import ChainGrower
from outrider.maths.rules import RULES
from outrider.maths.sampling import distribution

tiny_tokenizers = pytest.importorskip("tiny.tokenizers")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAFTERS: dict[str, Callable[[TableModel, TableModel], Drafter]] = {
    "intersection": IntersectionDrafter,
    "string": StringDrafter,
}
# Each of the two has tokens that the other lacks, and what both have stands at other ids.
BYTES = tiny_tokenizers.byte_level(["a", "b", "Ġ", "Ġa", "ab", "Ġab"])
PIECES = tiny_tokenizers.sentencepiece(["▁", "a", "b", "▁a", "ba", "▁b"])
WORDS = tiny_tokenizers.wordpiece(["a", "b", "##a", "##b", "ab", "##ba"])
PAIRS = {
    "byte-level target, sentencepiece draft": (BYTES, PIECES),
    "sentencepiece target, wordpiece draft": (PIECES, WORDS),
    "wordpiece target, byte-level draft": (WORDS, BYTES),
}
SAMPLINGS = {
    "plain": SamplingParams(),
    "nucleus": SamplingParams(temperature=1.4, top_p=0.8),
    "cold": SamplingParams(temperature=0.7, top_k=5),
    "penalties": SamplingParams(
        repetition_penalty=1.4, presence_penalty=0.4, frequency_penalty=-0.3, logit_bias={3: 0.8}, min_p=0.05
    ),
}
DRAWS = 700
LENGTH = 2
LOOKAHEAD = 3


def model(tokenizer, seed: int, spread: float = 1.2) -> TableModel:
    width = len(tokenizer.vocabulary)
    end = tokenizer.wrapped.eos_token_id
    table = TableModel.random(width, 2, spread=spread, seed=seed).table
    return TableModel(table, tokenizer=tokenizer, stop_token_ids=frozenset({end}))


def prompt_of(tokenizer) -> list[int]:
    return tokenizer.encode("ab a ba")


def draws_of(drafter: Drafter, target: TableModel, rule: str, sampling: SamplingParams) -> Draws:
    # A stop token is one token among others here: what counts are the first tokens.
    free = TableModel(target.table, tokenizer=target.tokenizer)
    decoder = SpeculativeDecoder(drafter, free, LOOKAHEAD, rule=rule)
    return Draws(decoder, prompt_of(target.tokenizer), LENGTH, sampling, max_tokens=LENGTH + LOOKAHEAD + 1)


def truth_of(target: TableModel, sampling: SamplingParams) -> dict[Outcome, float]:
    return joint_distribution(target, prompt_of(target.tokenizer), LENGTH, sampling)


CASES = [
    (rule, drafter, sampling, list(PAIRS)[(i + j + k) % len(PAIRS)])
    for i, rule in enumerate(RULES)
    if rule != "coupled"
    for j, drafter in enumerate(DRAFTERS)
    for k, sampling in enumerate(SAMPLINGS)
]


@pytest.mark.parametrize("rule, drafter, sampling, pair", CASES)
def test_the_output_has_the_targets_distribution(rule: str, drafter: str, sampling: str, pair: str) -> None:
    target, draft = (model(tokenizer, seed) for seed, tokenizer in zip((0, 2), PAIRS[pair], strict=True))
    draws = draws_of(DRAFTERS[drafter](draft, target), target, rule, SAMPLINGS[sampling])
    assert p_of_output(draws, truth_of(target, SAMPLINGS[sampling]), DRAWS) > THRESHOLD
    assert draws.sample.drafted > draws.sample.counts.total()
    assert 0 < draws.sample.accepted < 0.5 * draws.sample.drafted


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("number, sampling", list(enumerate(SAMPLINGS)))
def test_under_coupled_every_text_is_that_of_plain_decoding(number: int, sampling: str, drafter: str) -> None:
    pair = PAIRS[list(PAIRS)[number % len(PAIRS)]]
    target, draft = (model(tokenizer, seed) for seed, tokenizer in zip((0, 2), pair, strict=True))
    free, settings = TableModel(target.table, tokenizer=target.tokenizer), SAMPLINGS[sampling]
    decoder = SpeculativeDecoder(DRAFTERS[drafter](draft, target), free, LOOKAHEAD, rule="coupled")
    sample = texts_of(decoder, prompt_of(target.tokenizer), settings)
    assert 0 < sample.accepted < 0.5 * sample.drafted
    assert sample.texts == plain_texts(free, prompt_of(target.tokenizer), settings)


# Planted mistakes. Each wraps a method, and lets the drafts be what they are but for one thing.


@contextmanager
def wrapped(owner: type, name: str, change: Callable) -> Iterator[None]:
    """`change` gets the method that it stands for, and then its arguments."""
    method = getattr(owner, name)
    with patch.object(owner, name, lambda self, *arguments: change(method, self, *arguments)):
        yield


def each_draft(drafter: type[Drafter], change: Callable[[Drafter, Draft], Draft]) -> AbstractContextManager:
    def propose(method, self, sequences, budgets):
        return [change(self, draft) for draft in method(self, sequences, budgets)]

    return wrapped(drafter, "propose", propose)


@contextmanager
def q_of_the_whole_draft_vocabulary(renormalised: bool) -> Iterator[None]:
    """The settings are applied to all of the draft model's tokens; then those that the target has are picked."""
    rows = []  # of the draft model's own logits, in the order in which the chains draw

    def logits_of(method, self, logits):
        rows[:] = [logits[row : row + 1] for row in range(len(logits))]
        return method(self, logits)

    def drawn(method, self, chain, q):
        method(self, chain, q)
        translation = self._cache.vocabulary.translation.draft_tokens
        mistaken = distribution(rows.pop(0), chain.sequence.sampling)[0, translation] * (translation >= 0)
        chain.q[-1] = (mistaken / mistaken.sum() if renormalised else mistaken)[None]

    with wrapped(Intersection, "logits", logits_of), wrapped(ChainGrower, "_draw", drawn):
        yield


def q_not_renormalised_after_the_intersection() -> AbstractContextManager:
    return q_of_the_whole_draft_vocabulary(renormalised=False)


def settings_applied_before_the_intersection() -> AbstractContextManager:
    return q_of_the_whole_draft_vocabulary(renormalised=True)


def draft_models_ids_taken_for_the_targets() -> AbstractContextManager:
    def renamed(drafter, draft):
        own_ids = drafter.cache.vocabulary.translation.draft_tokens
        return replace(draft, tokens=tuple((own_ids[list(draft.tokens)] % len(own_ids)).tolist()))

    return each_draft(IntersectionDrafter, renamed)


def string_judged_by_the_draft_models_probability() -> AbstractContextManager:
    """As if its tokens had been drawn, with about the probability that a draft model gives its most probable one."""

    def judged(drafter, draft):
        if not len(draft):
            return draft
        width = drafter.cache.vocabulary.target_size
        q = np.full((len(draft), width), 0.5 / (width - 1), dtype=np.float32)
        q[np.arange(len(draft)), draft.tokens] = 0.5
        return replace(draft, q=q)

    return each_draft(StringDrafter, judged)


MISTAKES = [
    ("token", "intersection", "plain", q_not_renormalised_after_the_intersection),
    ("block", "intersection", "plain", q_not_renormalised_after_the_intersection),
    ("token", "intersection", "nucleus", settings_applied_before_the_intersection),
    ("block", "intersection", "nucleus", settings_applied_before_the_intersection),
    ("token", "intersection", "plain", draft_models_ids_taken_for_the_targets),
    ("block", "intersection", "plain", draft_models_ids_taken_for_the_targets),
    ("token", "string", "plain", string_judged_by_the_draft_models_probability),
    ("block", "string", "plain", string_judged_by_the_draft_models_probability),
]


MISTAKEN = (model(BYTES, 0), model(PIECES, 2))  # target and draft model


def mistaken_draws(rule: str, drafter: str, sampling: str) -> Draws:
    target, draft = MISTAKEN
    return draws_of(DRAFTERS[drafter](draft, target), target, rule, SAMPLINGS[sampling])


@pytest.mark.parametrize("rule, drafter, sampling", sorted({case[:3] for case in MISTAKES}))
def test_without_a_mistake_none_is_found(rule: str, drafter: str, sampling: str) -> None:
    truth = truth_of(MISTAKEN[0], SAMPLINGS[sampling])
    assert p_of_output(mistaken_draws(rule, drafter, sampling), truth, DRAWS) > THRESHOLD


@pytest.mark.parametrize("rule, drafter, sampling, mistake", MISTAKES, ids=lambda x: getattr(x, "__name__", x))
def test_a_mistake_is_found(rule: str, drafter: str, sampling: str, mistake: Mistake) -> None:
    truth = truth_of(MISTAKEN[0], SAMPLINGS[sampling])
    with mistake():
        assert p_of_mistake(mistaken_draws(rule, drafter, sampling), truth, DRAWS) < THRESHOLD
