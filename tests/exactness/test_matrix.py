"""The joint distribution of what the decoder emits, over rules, drafters, lookaheads and sampler settings."""

import pytest

from exactness.cases import CASES, SAMPLINGS, Case, all_pairs, pairs
from exactness.drafters import DRAFTERS, similar
from exactness.draws import draw_outputs
from exactness.statistics import THRESHOLD, joint_distribution, p_value
from outrider import SpeculativeDecoder, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 3_000
PROMPT = (0, 1, 2, 0, 1, 2, 0, 1)  # repetitive, so that the suffix drafter has something to say
SHAPES = ((3, 4), (4, 3), (5, 3), (6, 2))  # vocabulary, counted tokens: at most 125 outcomes


def test_every_pair_of_choices_occurs() -> None:
    rows = [(case.rule, case.drafter, case.lookahead, case.sampling) for case in CASES]
    covered = set().union(*(pairs(row) for row in rows))
    assert covered == all_pairs()


def test_the_matrix_makes_at_least_200_000_draws() -> None:
    assert DRAWS * len(CASES) >= 200_000


@pytest.mark.parametrize("number, case", list(enumerate(CASES)), ids=str)
def test_the_output_has_the_targets_distribution(number: int, case: Case) -> None:
    vocab_size, length = SHAPES[number % len(SHAPES)]
    target = TableModel.random(vocab_size, 2, spread=1.2, seed=number)
    drafter = DRAFTERS[case.drafter](target, similar(target, seed=1000 + number))
    decoder = SpeculativeDecoder(drafter, target, case.planned, rule=case.rule)
    sampling = SAMPLINGS[case.sampling]

    # Half the cases let a draft reach beyond the tokens that are counted; the others have it cut at the end.
    max_tokens = length if number % 2 else length + case.planned
    seed = number * DRAWS
    sample = draw_outputs(decoder, PROMPT, length, sampling, DRAWS, max_tokens=max_tokens, first_seed=seed)

    assert sample.drafted > 0
    assert p_value(sample.counts, joint_distribution(target, PROMPT, length, sampling)) > THRESHOLD
