"""The joint distribution of what the decoder emits, over rules, drafters, lookaheads and sampler settings."""

from functools import cache

import pytest

from exactness import test_hard_case as hard_case
from exactness.cases import CASES, SAMPLINGS, Case, all_pairs, pairs
from exactness.drafters import DRAFTERS, similar
from exactness.draws import Draws, p_of_output, plain_texts, texts_of
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from outrider import SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 3_000
PROMPT = (0, 1, 2, 0, 1, 2, 0, 1)  # repetitive, so that the suffix drafter has something to say
SHAPES = ((3, 4), (4, 3), (5, 3), (6, 2))  # vocabulary, counted tokens: at most 125 outcomes
NUMBERED = list(enumerate(CASES))
# Under `coupled` a text is that of plain decoding: it is compared, and plain decoding is counted.
COUNTED = [(number, case) for number, case in NUMBERED if case.rule != "coupled"]
COMPARED = [(number, case) for number, case in NUMBERED if case.rule == "coupled"]


def test_every_pair_of_choices_occurs() -> None:
    rows = [(case.rule, case.drafter, case.lookahead, case.sampling) for case in CASES]
    covered = set().union(*(pairs(row) for row in rows))
    assert covered == all_pairs()


def test_whole_samples_are_at_least_200_000_texts() -> None:
    """They are drawn to their end with OUTRIDER_ALL_DRAWS=1, or where one may show a mistake."""
    assert DRAWS * (len(COUNTED) + len(SAMPLINGS)) + hard_case.DRAWS * len(hard_case.COUNTED) >= 200_000


def target_of(number: int) -> TableModel:
    return TableModel.random(SHAPES[number % len(SHAPES)][0], 2, spread=1.2, seed=number)


def decoder_of(number: int, case: Case, target: TableModel) -> SpeculativeDecoder:
    drafter = DRAFTERS[case.drafter](target, similar(target, seed=1000 + number))
    return SpeculativeDecoder(drafter, target, case.planned, rule=case.rule)


@cache
def plain(name: str) -> tuple[TableModel, dict[int, Outcome]]:
    """For each sampler setting the target whose plain decoding is counted below, and the texts that it makes."""
    target = target_of(list(SAMPLINGS).index(name))
    return target, plain_texts(target, PROMPT, SAMPLINGS[name])


@pytest.mark.parametrize("number, case", COUNTED, ids=str)
def test_the_output_has_the_targets_distribution(number: int, case: Case) -> None:
    length = SHAPES[number % len(SHAPES)][1]
    decoder = decoder_of(number, case, target_of(number))
    sampling = SAMPLINGS[case.sampling]

    # Half the cases let a draft reach beyond the tokens that are counted; the others have it cut at the end.
    max_tokens = length if number % 2 else length + case.planned
    seed = number * DRAWS
    draws = Draws(decoder, PROMPT, length, sampling, max_tokens=max_tokens, first_seed=seed)

    assert p_of_output(draws, joint_distribution(decoder.target, PROMPT, length, sampling), DRAWS) > THRESHOLD
    assert draws.sample.drafted > 0


@pytest.mark.parametrize("number, case", COMPARED, ids=str)
def test_under_coupled_every_text_is_that_of_plain_decoding(number: int, case: Case) -> None:
    target, texts = plain(case.sampling)
    sample = texts_of(decoder_of(number, case, target), PROMPT, SAMPLINGS[case.sampling])
    assert sample.accepted > 0
    assert sample.texts == texts


@pytest.mark.parametrize("number, name", list(enumerate(SAMPLINGS)), ids=str)
def test_plain_decoding_under_coupled_has_the_targets_distribution(number: int, name: str) -> None:
    length = SHAPES[number % len(SHAPES)][1]
    target = target_of(number)
    decoder = SpeculativeDecoder(None, target, rule="coupled")
    draws = Draws(decoder, PROMPT, length, SAMPLINGS[name])
    assert p_of_output(draws, joint_distribution(target, PROMPT, length, SAMPLINGS[name]), DRAWS) > THRESHOLD
