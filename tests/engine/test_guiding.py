"""What a grammar tells the engine: drafts that are certain, drafts that are cut, and what drafters hear of it."""

import numpy as np
import pytest

from outrider import Draft, Drafter, Engine, Request, SamplingParams, TableModel
from outrider.maths.processors import Constraint
from tiny.tables import TARGET

SIZE = TARGET.traits.vocab_size


class Rising(Constraint):
    """Tokens rise by 1 or 2 and end at 4. After 3 only 4 may follow."""

    def __call__(self, output, logits):
        if self.ended(output):
            return logits
        return logits + [0 if self._follows(output, token) else -float("inf") for token in range(SIZE)]

    def admits(self, output):
        return all(self._follows(output[:place], token) for place, token in enumerate(output))

    def forced(self, output):
        return [4] if output and output[-1] == 3 else []

    def ended(self, output):
        return bool(output) and output[-1] == 4

    def _follows(self, output, token):
        return token - output[-1] in (1, 2) if output else token in (0, 1)


class Fixed(Drafter):
    """Always proposes the same tree, and keeps what it is told."""

    trees = True

    def __init__(self, draft):
        self.draft = draft
        self.told = []

    def propose(self, sequences, budgets):
        return [self.draft if budget.longest >= 3 else Draft() for budget in budgets]

    def observe(self, sequence, draft, verdict):
        self.told.append((draft, verdict))


RISING = Rising()


def decoded(drafter, target, processors=(RISING,), seed=0):
    records = []
    engine = Engine(target, drafter, lookahead=8, max_rows=1, capacity=64, observer=records.append)
    sampling = SamplingParams(temperature=0, seed=seed, logits_processors=processors)
    handle = engine.submit(Request([0, 1], 20, sampling, frozenset(), detokenize=False))
    while not engine.idle:
        engine.step()
    return handle, records


def likes(*order):
    """A target whose greedy choice is the first allowed token of `order`."""
    return TableModel(np.array([-order.index(token) for token in range(SIZE)], dtype=np.float32), name="likes")


def test_a_text_ends_where_its_grammar_does():
    handle, _ = decoded(None, likes(0, 1, 2, 3, 4))
    assert handle.tokens == [0, 1, 2, 3, 4]
    assert str(handle.finish_reason) == "stop"


def test_what_is_certain_is_drafted_without_a_drafter():
    handle, records = decoded(None, likes(0, 1, 2, 3, 4))
    assert handle.stats.rounds == 5
    drafts = [part for record in records for part in record.sequences if part.drafted]
    assert all(part.source == "grammar" and part.planned is None for part in drafts)


def test_tokens_that_a_grammar_bans_are_cut_from_chosen_drafts_and_drafters_hear_of_their_own():
    #         0 -> 1 -> 2        3 is banned at the beginning, and all below it
    tree = Draft((3, 0, 4, 1, 2, 0), (-1, -1, 0, 1, 3, 3), source="fixed")
    drafter = Fixed(tree)
    handle, records = decoded(drafter, likes(0, 1, 2, 3, 4))
    assert handle.tokens == [0, 1, 2, 3, 4]
    first = records[0].sequences[0]
    assert first.drafted == 3  # 0, 1 and 2
    assert first.accepted == 3
    draft, verdict = drafter.told[0]
    assert draft is tree
    assert [tree.tokens[node] for node in verdict.path] == [0, 1, 2]
    assert verdict.token == 3
    assert verdict.bonus


def test_a_rejection_at_a_cut_token_is_no_bonus_to_the_drafter():
    chain = Draft((0, 3, 4), source="fixed")  # after 0 comes 1 or 2
    drafter = Fixed(chain)
    decoded(drafter, likes(0, 1, 2, 3, 4))
    draft, verdict = drafter.told[0]
    assert draft is chain
    assert verdict.path == (0,)
    assert verdict.token == 1
    assert not verdict.bonus


@pytest.mark.parametrize("drafter", [None, Fixed(Draft((0, 1, 2), source="fixed"))], ids=["none", "fixed"])
def test_without_a_grammar_nothing_is_cut(drafter):
    handle, records = decoded(drafter, likes(0, 1, 2, 3, 4), processors=())
    assert len(handle.tokens) == 20
    assert all(part.source in ("", "fixed") for record in records for part in record.sequences)
