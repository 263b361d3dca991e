"""The coupled rule: a seed, a prompt and a target give one text, whatever drafts and however far it looks ahead."""

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactness.cases import SAMPLINGS
from exactness.drafters import DRAFTERS, lookups, memory_of, similar
from exactness.draws import plain_texts, texts_of
from exactness.statistics import Outcome
from outrider import (
    Adaptive,
    Drafter,
    Engine,
    ModelDrafter,
    RecyclingMemory,
    Request,
    SamplingParams,
    SpeculativeDecoder,
    TableModel,
)
from outrider.drafters.suffix.drafter import SuffixDrafter

LENGTH = 12
MANY_SEEDS = (0, 1, 2, 0, 1)  # the prompt
TARGETS = {order: TableModel.random(5, order, spread=1.5, seed=order) for order in (0, 1, 2)}

prompts = st.lists(st.integers(0, 4), min_size=1, max_size=12)
seeds = st.integers(0, 2**64 - 1)


def text(drafter: Drafter | None, target: TableModel, lookahead, prompt, sampling) -> list[int]:
    decoder = SpeculativeDecoder(drafter, target, lookahead, rule="coupled")
    return decoder.generate(prompt, max_tokens=LENGTH, sampling=sampling).tokens


@settings(max_examples=60)
@given(st.sampled_from(sorted(TARGETS)), st.integers(0, 6), prompts, st.sampled_from(sorted(SAMPLINGS)), seeds)
def test_no_drafter_and_no_lookahead_changes_the_text(order, lookahead, prompt, setting, seed) -> None:
    target = TARGETS[order]
    drafters = {name: make(target, similar(target, seed=9)) for name, make in DRAFTERS.items()}
    sampling = replace(SAMPLINGS[setting], seed=seed)
    plain = text(None, target, 4, prompt, sampling)
    for name, drafter in (drafters | {"target itself": ModelDrafter(target)}).items():
        assert text(drafter, target, lookahead, prompt, sampling) == plain, name


@cache
def plain_texts_of_many_seeds() -> dict[int, Outcome]:
    return plain_texts(TARGETS[2], MANY_SEEDS, SamplingParams(), texts=40, length=LENGTH)


@pytest.mark.parametrize("lookahead", range(7))
def test_many_seeds(lookahead: int) -> None:
    target = TARGETS[2]
    for drafter in DRAFTERS.values():
        decoder = SpeculativeDecoder(drafter(target, similar(target, seed=9)), target, lookahead, rule="coupled")
        sample = texts_of(decoder, MANY_SEEDS, SamplingParams(), texts=40, length=LENGTH)
        assert sample.texts == plain_texts_of_many_seeds()


@settings(max_examples=30)
@given(prompts, seeds)
def test_an_adaptive_lookahead_does_not_change_the_text(prompt, seed) -> None:
    target, sampling = TARGETS[1], SamplingParams(seed=seed)
    plain = text(None, target, 4, prompt, sampling)
    assert text(ModelDrafter(similar(target, seed=9)), target, Adaptive(), prompt, sampling) == plain


@settings(max_examples=30)
@given(prompts, seeds, st.lists(st.integers(0, 4), max_size=10))
def test_a_prediction_does_not_change_the_text(prompt, seed, predicted) -> None:
    target, sampling = TARGETS[1], SamplingParams(seed=seed)
    decoder = SpeculativeDecoder(SuffixDrafter(min_survival=0), target, rule="coupled")
    generation = decoder.generate(prompt, max_tokens=LENGTH, sampling=sampling, predicted=predicted)
    assert generation.tokens == text(None, target, 4, prompt, sampling)


MEMORIES = {
    "cold": lambda target: None,
    "forgetful": lambda target: RecyclingMemory(2),
    "warm": memory_of,
    "wrong": lambda target: memory_of(TableModel(-target.table)),
}


@pytest.mark.parametrize("name", MEMORIES)
@settings(max_examples=25)
@given(st.sampled_from([1, 2, 7]), prompts, st.sampled_from(sorted(SAMPLINGS)), seeds, st.integers(1, 3))
def test_what_lookups_have_learned_does_not_change_the_text(name, lookahead, prompt, setting, seed, rows) -> None:
    target = TARGETS[2]
    drafter = lookups(MEMORIES[name](target))
    requests = [Request(prompt, LENGTH, replace(SAMPLINGS[setting], seed=(seed + text) % 2**64)) for text in range(4)]
    alone = [text(None, target, 4, prompt, request.sampling) for request in requests]
    engine = Engine(target, drafter, lookahead=lookahead, rule="coupled", max_rows=rows)
    for _ in range(2):  # the second time it has seen what it is to draft
        handles = [engine.submit(request) for request in requests]
        while not engine.idle:
            engine.step()
        assert [handle.tokens for handle in handles] == alone
    assert sum(handle.stats.drafted for handle in handles) > 0


def test_another_seed_gives_another_text() -> None:
    texts = {tuple(text(None, TARGETS[2], 0, (0,), SamplingParams(seed=seed))) for seed in range(20)}
    assert len(texts) == 20


@settings(max_examples=60)
@given(
    st.sampled_from(sorted(DRAFTERS)),
    st.integers(0, 6),
    prompts,
    st.sampled_from(["token", "block", "coupled"]),
)
def test_greedy_decoding_is_one_text_under_every_rule(name, lookahead, prompt, rule) -> None:
    target, greedy = TARGETS[2], SamplingParams(temperature=0, repetition_penalty=1.3)
    if name.startswith("tree"):
        name = "model"  # the trees of these tests are sampled
    decoder = SpeculativeDecoder(DRAFTERS[name](target, similar(target, seed=9)), target, lookahead, rule=rule)
    generation = decoder.generate(prompt, max_tokens=LENGTH, sampling=greedy)
    assert generation.tokens == text(None, target, 0, prompt, greedy)
