"""Draws in many rows are those of a decoder that makes one text after the other, and are made no longer than needed."""

from collections import Counter
from dataclasses import replace

import pytest

from exactness.drafters import DRAFTERS, similar
from exactness.draws import LOOKS, Draws, p_of_mistake
from outrider import ModelDrafter, SamplingParams, SpeculativeDecoder, TableModel

PROMPT = (0, 1, 2, 0, 1)
TARGET = TableModel.random(4, 2, spread=1.2, seed=61)
SAMPLING = SamplingParams(temperature=0.9, top_p=0.95, repetition_penalty=1.2)
# What these learn from other texts goes into the key of the noise: under other rules than coupled a seed's text depends
# on the texts beside it, though its distribution does not.
LEARNING = ("lookups", "suffix-memory")
CASES = [
    (rule, drafter)
    for rule in ("token", "block", "coupled")
    for drafter in DRAFTERS
    if (rule, drafter[:4]) != ("block", "tree") and (rule == "coupled" or drafter not in LEARNING)
]


def decoder(rule: str, drafter: str) -> SpeculativeDecoder:
    return SpeculativeDecoder(DRAFTERS[drafter](TARGET, similar(TARGET, seed=62)), TARGET, 3, rule=rule)


@pytest.mark.parametrize("rule, drafter", CASES)
def test_a_decoder_draws_what_its_engine_draws_in_many_rows(rule: str, drafter: str) -> None:
    drawn = Draws(decoder(rule, drafter), PROMPT, 3, SAMPLING, max_tokens=6, first_seed=5)
    alone = Counter()
    single = decoder(rule, drafter)
    for first, count in ((5, 40), (45, 20)):
        drawn.more(count)
        for seed in range(first, first + count):
            sampling = replace(SAMPLING, seed=seed)
            alone[tuple(single.generate(PROMPT, max_tokens=6, sampling=sampling).tokens[:3])] += 1
        assert drawn.sample.counts == alone
    assert drawn.sample.drafted > 0


def test_looks_end_with_the_first_that_finds_a_mistake() -> None:
    draws = Draws(SpeculativeDecoder(ModelDrafter(TARGET), TARGET, 2), PROMPT, 1, SamplingParams())
    assert p_of_mistake(draws, {(0,): 1.0}, 2400) == 0  # whatever is drawn besides a 0 is impossible
    assert draws.sample.counts.total() == LOOKS[0] * 2400
