"""The joint distribution of what the decoder emits, over rules, drafters, lookaheads and sampler settings."""

import pytest

from exactness import test_hard_case as hard_case
from exactness.cases import CASES, SAMPLINGS, Case, all_pairs, pairs
from exactness.drafters import DRAFTERS, similar
from exactness.draws import Draws, p_of_output, plain_texts, texts_of
from exactness.statistics import THRESHOLD, joint_distribution
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


def decoder_of(number: int, case: Case) -> SpeculativeDecoder:
    target = TableModel.random(SHAPES[number % len(SHAPES)][0], 2, spread=1.2, seed=number)
    drafter = DRAFTERS[case.drafter](target, similar(target, seed=1000 + number))
    return SpeculativeDecoder(drafter, target, case.planned, rule=case.rule)


@pytest.mark.parametrize("number, case", COUNTED, ids=str)
def test_the_output_has_the_targets_distribution(number: int, case: Case) -> None:
    length = SHAPES[number % len(SHAPES)][1]
    decoder = decoder_of(number, case)
    sampling = SAMPLINGS[case.sampling]

    # Half the cases let a draft reach beyond the tokens that are counted; the others have it cut at the end.
    max_tokens = length if number % 2 else length + case.planned
    seed = number * DRAWS
    draws = Draws(decoder, PROMPT, length, sampling, max_tokens=max_tokens, first_seed=seed)

    assert p_of_output(draws, joint_distribution(decoder.target, PROMPT, length, sampling), DRAWS) > THRESHOLD
    assert draws.sample.drafted > 0


@pytest.mark.parametrize("number, case", COMPARED, ids=str)
def test_under_coupled_every_text_is_that_of_plain_decoding(number: int, case: Case) -> None:
    decoder, sampling = decoder_of(number, case), SAMPLINGS[case.sampling]
    sample = texts_of(decoder, PROMPT, sampling)
    assert sample.accepted > 0
    assert sample.texts == plain_texts(decoder.target, PROMPT, sampling)


@pytest.mark.parametrize("number, name", list(enumerate(SAMPLINGS)), ids=str)
def test_plain_decoding_under_coupled_has_the_targets_distribution(number: int, name: str) -> None:
    vocab_size, length = SHAPES[number % len(SHAPES)]
    target = TableModel.random(vocab_size, 2, spread=1.2, seed=number)
    decoder = SpeculativeDecoder(None, target, rule="coupled")
    draws = Draws(decoder, PROMPT, length, SAMPLINGS[name])
    assert p_of_output(draws, joint_distribution(target, PROMPT, length, SAMPLINGS[name]), DRAWS) > THRESHOLD
