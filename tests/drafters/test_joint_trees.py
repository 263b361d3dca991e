"""One tree from all sources is no worse than the best of them, on saved answers of a real model."""

import pytest

from drafters.replay import Tally, replay, saved_answers
from outrider import LookupDrafter, Merged, RecyclingDrafter, RecyclingSource, SuffixSource, SuffixTreeDrafter
from outrider.maths.budget import Prices
from outrider.training.shards import Text

TEXTS = saved_answers()
LITTLE, MUCH = TEXTS[:6], TEXTS[12:]


def copied(text: Text) -> Text:
    """The same answer, to a prompt that ends with its words: all of it can be copied."""
    answer = text.tokens[text.prompt :]
    tokens = (*text.tokens[: text.prompt - 3], *answer, *text.tokens[text.prompt - 3 :])
    return Text(tokens, text.prompt + len(answer), text.top, text.probabilities)


KINDS = {"little": LITTLE, "much": MUCH, "everything": [copied(text) for text in LITTLE]}


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[Tally, Tally]]:
    """Each source by itself."""
    return {
        kind: (replay(SuffixTreeDrafter(), texts), replay(RecyclingDrafter(), texts)) for kind, texts in KINDS.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_lookups_together_accept_more_than_the_better_one_alone(kind, alone):
    both = replay(LookupDrafter(), KINDS[kind]).tokens_per_round
    assert both >= max(each.tokens_per_round for each in alone[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_merged_drafts_are_no_worse_than_the_best_of_them(kind, alone):
    merged = Merged([SuffixTreeDrafter(), RecyclingDrafter()], rests=False)
    assert replay(merged, KINDS[kind]).tokens_per_round >= 0.99 * max(each.tokens_per_round for each in alone[kind])


def test_what_copies_is_drafted_to_its_end():
    """Where equal parts of the budget went to both, 5 tokens a round became 1.7."""
    assert replay(LookupDrafter(), KINDS["everything"]).tokens_per_round > 8
    assert (
        replay(Merged([SuffixTreeDrafter(), RecyclingDrafter()], rests=False), KINDS["everything"]).tokens_per_round > 8
    )


def test_chances_are_right_on_average():
    tally = replay(LookupDrafter(), TEXTS)
    assert tally.expected == pytest.approx(tally.accepted, rel=0.1)


def test_prices_decide_where_to_stop():
    dear = Prices(tuple(0.3 * count for count in range(17)))
    free, priced = replay(LookupDrafter(), TEXTS), replay(LookupDrafter(), TEXTS, prices=dear)
    assert priced.drafted < 0.4 * free.drafted
    assert priced.accepted > 0.3 * priced.drafted  # what is bought is worth its price
    assert priced.accepted > 0.5 * free.accepted


def test_suffixes_add_to_recycled_successors():
    single = replay(LookupDrafter([RecyclingSource()]), TEXTS).tokens_per_round
    assert replay(LookupDrafter([SuffixSource(), RecyclingSource()]), TEXTS).tokens_per_round > 1.05 * single
