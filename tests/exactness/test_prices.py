"""Drafters that heed prices: drafts end where more does not pay, and the output has the target's distribution."""

from collections.abc import Callable, Sequence
from functools import cache

import pytest

from exactness.draws import Draws, Sample, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.mutations import drawn_tokens_weighed_after_the_draw
from exactness.policies import Priced
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from outrider import SamplingParams, SpeculativeDecoder, SuffixDrafter, SuffixTreeDrafter, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 4_000
LENGTH = 2
# After 3, 1 comes 2 or 4. What follows 2 has been seen twice, what follows 4 once: a draft of two tokens is worth more
# where the first is 2.
PROMPT = (3, 1, 2, 5, 3, 1, 4, 0, 3, 1, 2, 5, 2, 3, 1)
TARGET = TableModel.random(6, 1, spread=1.2, seed=51)


CHANGING = ((0.0, 0.3, 0.8, 1.5, 2.4), (0.0, 0.9, 1.0, 1.1, 1.2), (0.0,), (0.0, 0.1, 0.2, 0.3, 0.4))
# The second token for next to nothing, if the first is paid for: two tokens pay where the first is 2 alone.
STEP = {"chain": (0.0, 1.0, 1.05), "tree": (0.0, 0.62, 0.74)}
DRAFTERS: dict[str, Callable[[bool], SuffixDrafter]] = {
    "chain": lambda greedy: SuffixDrafter(greedy=greedy),
    "tree": lambda greedy: SuffixTreeDrafter(greedy=greedy),
}


TRUTH = joint_distribution(TARGET, PROMPT, LENGTH, SamplingParams())


def decoder_of(drafter: SuffixDrafter, rule: str, prices: Sequence[tuple[float, ...]]) -> SpeculativeDecoder:
    return SpeculativeDecoder(drafter, TARGET, Priced(*prices), rule=rule)


def draws_of(drafter: SuffixDrafter, rule: str, prices: Sequence[tuple[float, ...]]) -> Draws:
    decoder = decoder_of(drafter, rule, prices)
    return Draws(decoder, PROMPT, LENGTH, SamplingParams(), max_tokens=6)


def many_rejected(sample: Sample) -> bool:
    return 0 < sample.accepted < 0.65 * sample.drafted


@pytest.mark.parametrize("changing", [True, False], ids=["changing", "step"])
@pytest.mark.parametrize("greedy", [False, True], ids=["drawn", "chosen"])
@pytest.mark.parametrize("drafter, rule", [("chain", "token"), ("chain", "block"), ("tree", "token")])
def test_the_output_has_the_targets_distribution(drafter: str, rule: str, greedy: bool, changing: bool) -> None:
    draws = draws_of(DRAFTERS[drafter](greedy), rule, prices_of(drafter, greedy, changing))
    assert p_of_output(draws, TRUTH, DRAWS) > THRESHOLD
    assert many_rejected(draws.sample)


def prices_of(drafter: str, greedy: bool, changing: bool) -> Sequence[tuple[float, ...]]:
    step = STEP["tree" if greedy else drafter]  # the likeliest token by itself is worth less than some token
    return CHANGING if changing else (step,)


@cache
def plain() -> dict[int, Outcome]:
    return plain_texts(TARGET, PROMPT, SamplingParams())


@pytest.mark.parametrize("changing", [True, False], ids=["changing", "step"])
@pytest.mark.parametrize("greedy", [False, True], ids=["drawn", "chosen"])
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_under_coupled_every_text_is_that_of_plain_decoding(drafter: str, greedy: bool, changing: bool) -> None:
    decoder = decoder_of(DRAFTERS[drafter](greedy), "coupled", prices_of(drafter, greedy, changing))
    sample = texts_of(decoder, PROMPT, SamplingParams())
    assert many_rejected(sample)
    assert sample.texts == plain()


@pytest.mark.parametrize("drafter, rule", [("chain", "token"), ("chain", "block"), ("tree", "token")])
def test_weighing_tokens_that_were_drawn_is_found(drafter: str, rule: str) -> None:
    draws = draws_of(DRAFTERS[drafter](False), rule, (STEP[drafter],))
    with drawn_tokens_weighed_after_the_draw():
        assert p_of_mistake(draws, TRUTH, DRAWS) < THRESHOLD
    assert many_rejected(draws.sample)
