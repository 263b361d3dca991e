"""Under a grammar, speculative decoding has the distribution of plain decoding, under every rule, in chains and trees.

The truth is worked out from the language itself: all texts that it holds, written down.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from unittest.mock import patch

import numpy as np
import pytest

pytest.importorskip("llguidance")

from exactness import mutations
from exactness.drafters import DRAFTERS, lookups, memory_of
from exactness.draws import Draws, p_of_mistake, p_of_output, plain_texts, texts_of
from exactness.statistics import THRESHOLD, Outcome, joint_distribution
from exactness.test_array_libraries import over_arrays
from outrider import (
    Drafter,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    SamplingParams,
    SpeculativeDecoder,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.drafters import chains
from outrider.drafters.chains import ChainGrower
from outrider.engine import guiding
from outrider.maths.sampling import distribution
from outrider.structured import GrammarConstraint, regex
from outrider.structured.cursors import Cursor
from tiny.pieces import Pieces

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

LETTERS = "abcd"
TOKENIZER = Pieces(LETTERS)
WORDS = ("ab", "ba", "bcc", "cdab", "dd")  # some letters are certain: after bc, after c and in the middle of cdab
CONSTRAINT = GrammarConstraint(regex(f"({'|'.join(WORDS)})*"), TOKENIZER, len(LETTERS))
PROMPT = (0, 1, 2, 3, 0, 1, 2)
COUNTED = 4  # tokens of a text
DRAWS = 600


def beginnings(longest: int) -> set[str]:
    """Everything that a text of the language may begin with, up to a length."""
    texts = {""}
    while True:
        longer = {text + word for text in texts for word in WORDS if len(text) < longest} - texts
        if not longer:
            return {text[:length] for text in texts for length in range(longest + 1)}
        texts |= longer


BEGINNINGS = beginnings(COUNTED)


def language(output, logits):
    """The grammar by its texts, for the truth."""
    text = "".join(LETTERS[token] for token in output)
    return np.where([text + letter in BEGINNINGS for letter in LETTERS], logits, -np.inf)


def target_and_draft() -> tuple[TableModel, TableModel]:
    """A draft model that likes what the target does not: most of its tokens are rejected."""
    target = TableModel.random(len(LETTERS), 1, spread=1.0, seed=81)
    return target, TableModel(-0.7 * target.table, name="contrary")


TREES: dict[str, Callable[[TableModel, TableModel], Drafter]] = {
    "model-tree": lambda target, draft: ModelTreeDrafter(draft),
    "suffix-tree": lambda target, draft: SuffixTreeDrafter(greedy=False),
    "lookup-tree": lambda target, draft: lookups(memory_of(draft)),
    "merged": lambda target, draft: Merged([ModelDrafter(draft), ModelTreeDrafter(target)], rests=False),
}
CHAINS = {name: DRAFTERS[name] for name in ("model", "suffix", "greedy-suffix")}
CASES = [("token", name) for name in (*CHAINS, *TREES)] + [("block", "model"), ("block", "suffix")]
ALONE = SamplingParams(temperature=0.9, logits_processors=(CONSTRAINT,))
TRUTH = SamplingParams(temperature=0.9, logits_processors=(language,))


def p_of(rule: str, name: str) -> float:
    target, draft = target_and_draft()
    drafter = (CHAINS | TREES)[name](target, draft)
    decoder = SpeculativeDecoder(drafter, target, 5, rule=rule)
    draws = Draws(decoder, PROMPT, COUNTED, ALONE, max_tokens=8)
    p = p_of_output(draws, joint_distribution(target, PROMPT, COUNTED, TRUTH), DRAWS)
    assert 0 < draws.sample.accepted < draws.sample.drafted
    return p


@pytest.mark.parametrize("rule, name", CASES)
def test_the_output_is_that_of_plain_decoding_within_the_language(rule: str, name: str) -> None:
    assert p_of(rule, name) > THRESHOLD


def test_plain_decoding_is_the_targets_distribution_within_the_language() -> None:
    target, _ = target_and_draft()
    draws = Draws(SpeculativeDecoder(None, target, rule="coupled"), PROMPT, COUNTED, ALONE, max_tokens=8)
    assert p_of_output(draws, joint_distribution(target, PROMPT, COUNTED, TRUTH), DRAWS) > THRESHOLD
    assert draws.sample.drafted > 0  # what is certain is drafted by nobody


@cache
def plain() -> dict[int, Outcome]:
    return plain_texts(target_and_draft()[0], PROMPT, ALONE)


@pytest.mark.parametrize("name", [*CHAINS, *TREES])
def test_under_coupled_every_text_is_that_of_plain_decoding(name: str) -> None:
    target, draft = target_and_draft()
    sample = texts_of(
        SpeculativeDecoder((CHAINS | TREES)[name](target, draft), target, 5, rule="coupled"), PROMPT, ALONE
    )
    assert 0 < sample.accepted < sample.drafted
    assert sample.texts == plain()


@pytest.mark.parametrize("library", ["torch", "mlx"])
def test_masks_mean_the_same_in_every_library(library: str) -> None:
    target, draft = target_and_draft()
    texts = [
        texts_of(SpeculativeDecoder(ModelTreeDrafter(small), large, 5), PROMPT, ALONE, texts=32).texts
        for small, large in ((over_arrays(library, draft), over_arrays(library, target)), (draft, target))
    ]
    assert texts[0] == texts[1]


# Mistakes, planted


@contextmanager
def q_masked_after_the_draw():
    """The draft token is drawn from what the draft model says, and q is told with the mask."""

    def choose(self, chain, logits):
        masked = chains.adjusted(logits, chain.sampling, chain.sequence.history, [chain.tokens])
        self._draw(chain, distribution(logits, chain.sampling)[0])
        if chains.live_rows(masked):
            chain.q[-1] = distribution(masked, chain.sampling)

    with patch.object(ChainGrower, "_choose", choose):
        yield


def mask_of_the_position_before():
    called = GrammarConstraint.__call__

    def one_before(self, output, logits):
        return called(self, output[:-1], logits)

    return patch.object(GrammarConstraint, "__call__", one_before)


def state_not_rolled_back():
    def move(self, text, shared):
        coming = list(text[shared:])
        read = self.matcher.try_consume_tokens(coming) if coming else 0
        self.tokens = [*self.tokens[:shared], *coming[:read]]
        return read == len(coming)

    return patch.object(Cursor, "move", move)


@contextmanager
def drawn_drafts_cut_where_the_grammar_bans_them():
    made = guiding.cut

    def cut(draft, sequence):
        found = made(replace(draft, q=None), sequence)
        if found is not None and draft.q is not None:
            found.draft = replace(found.draft, q=draft.q)
        return found

    with patch("outrider.engine.feeds.cut", cut):
        yield


MISTAKES = {
    "q_masked_after_the_draw": ("token", "model", q_masked_after_the_draw),
    "mask_of_the_position_before": ("token", "model", mask_of_the_position_before),
    "state_not_rolled_back": ("token", "model-tree", state_not_rolled_back),
    "mask_of_the_pending_token_along_the_draft": ("token", "model", mutations.penalties_forgotten_along_the_draft),
    "drawn_drafts_cut_where_the_grammar_bans_them": (
        "token",
        "suffix",
        drawn_drafts_cut_where_the_grammar_bans_them,
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_found(mistake: str) -> None:
    rule, name, plant = MISTAKES[mistake]
    target, draft = target_and_draft()
    decoder = SpeculativeDecoder((CHAINS | TREES)[name](target, draft), target, 5, rule=rule)
    expected = joint_distribution(target, PROMPT, COUNTED, TRUTH)
    with plant():
        assert p_of_mistake(Draws(decoder, PROMPT, COUNTED, ALONE, max_tokens=8), expected, 1000) < THRESHOLD
