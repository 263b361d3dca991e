"""A draft model's cache follows the texts, whatever became of the drafts, and is fed nothing twice."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from outrider import Budget, Draft, ModelDrafter, ModelTreeDrafter, SamplingParams, StaticTree, TableModel
from outrider.drafters.base import READING_BESIDE_A_DRAFT, Reading
from outrider.drafters.cache import DraftCache
from outrider.maths.draft import EMPTY
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import History
from outrider.runtimes.stateless import StatelessSession

GREEDY = SamplingParams(temperature=0, seed=0)
SAMPLED = SamplingParams(seed=0)


@dataclass
class Text:
    """A sequence as drafters see it."""

    id: int
    tokens: list[int]
    sampling: SamplingParams = GREEDY
    predicted: tuple[int, ...] = ()
    history: History = field(default_factory=lambda: History(()))
    isolation: str | None = ""

    @property
    def noise(self) -> RoundNoise:
        return RoundNoise(1, len(self.tokens), False)


class Watched(TableModel):
    """Writes down what each pass feeds, by row."""

    def open(self, rows, capacity):
        self.fed: list[dict[int, list[int]]] = []
        session = super().open(rows, capacity)
        extend = session.extend

        def watched(work):
            self.fed.append(dict(zip(work.rows, map(list, work.tokens), strict=True)))
            return extend(work)

        session.extend = watched
        return session


def counting(vocab_size: int = 10, context_length: int = 64) -> Watched:
    """After each token comes the next one."""
    table = TableModel.random(vocab_size, 1, spread=0.1).table
    for token in range(vocab_size):
        table[token, (token + 1) % vocab_size] += 20
    return Watched(table, context_length=context_length)


def opened(rows: int = 2, **settings) -> ModelDrafter:
    drafter = ModelDrafter(counting(), **settings)
    drafter.prepare(rows, 40, 10)
    return drafter


def propose(drafter, texts, *longest: int) -> list[tuple[int, ...]]:
    drafter.model.fed.clear()
    return [draft.tokens for draft in drafter.propose(texts, [Budget(count, count) for count in longest])]


# Catching up


def test_after_a_draft_that_was_accepted_the_newest_two_tokens_are_fed() -> None:
    drafter, text = opened(), Text(0, [1, 2])
    assert propose(drafter, [text], 3) == [(3, 4, 5)]
    text.tokens += [3, 4, 5, 6]
    assert propose(drafter, [text], 1) == [(7,)]
    assert drafter.model.fed == [{0: [5, 6]}]


def test_after_a_draft_that_was_rejected_the_correction_is_fed() -> None:
    drafter, text = opened(), Text(0, [1, 2])
    propose(drafter, [text], 3)
    text.tokens += [3, 8]
    assert propose(drafter, [text], 1) == [(9,)]
    assert drafter.model.fed == [{0: [8]}]
    text.tokens += [0]
    assert propose(drafter, [text], 1) == [(1,)]
    assert drafter.model.fed == [{0: [0]}]


def test_after_rounds_without_a_draft_all_that_is_missing_is_fed_at_once() -> None:
    drafter, text = opened(), Text(0, [1, 2])
    propose(drafter, [text], 2)
    text.tokens += [3, 9, 9, 4]
    assert propose(drafter, [text], 0) == [()]
    assert drafter.model.fed == []
    assert propose(drafter, [text], 1) == [(5,)]
    assert drafter.model.fed == [{0: [9, 9, 4]}]


def test_the_branch_of_a_tree_that_was_accepted_stays() -> None:
    drafter = ModelTreeDrafter(counting(), StaticTree((2, 2, 1)))
    drafter.prepare(1, 40, 10)
    text = Text(0, [1, 2])
    (draft,) = drafter.propose([text], [Budget(10, 3)])
    second = draft.children(draft.children(-1)[1])[0]
    text.tokens += [draft.tokens[node] for node in draft.path(second)] + [0]
    drafter.model.fed.clear()
    drafter.propose([text], [Budget(1, 1)])
    assert drafter.model.fed == [{0: [0]}]


def test_a_text_that_turned_out_otherwise_is_fed_from_there() -> None:
    cache = DraftCache(counting())
    cache.open(1, 40, 10)
    text = Text(0, [])
    cache.score([cache.follow(text, [1, 2, 3, 4])])
    row = cache.follow(text, [1, 2, 5, 6])
    assert row.feed == [5, 6]
    cache.score([row])
    assert cache.follow(text, [1, 2]).feed == [2]  # at least one: its logits are wanted


def test_a_sequence_that_ended_gives_its_row_to_the_next() -> None:
    drafter = opened(rows=1)
    propose(drafter, [Text(0, [1, 2])], 2)
    drafter.forget(Text(0, []))
    drafter.forget(Text(7, []))  # which never drafted
    assert propose(drafter, [Text(1, [4])], 1) == [(5,)]
    assert drafter.model.fed == [{0: [4]}]


def test_a_long_prompt_is_fed_as_the_target_reads_it() -> None:
    drafter = ModelDrafter(counting(context_length=400))
    drafter.prepare(2, 400, 10)
    texts = [Text(0, [1] * 200 + [2]), Text(1, [5, 6])]
    pieces = [Reading(0, [1] * 120, None), Reading(0, [5, 6], EMPTY)]
    drafter.read(texts, pieces)
    assert drafter.model.fed == [{0: [1] * 120}]
    last = [1] * 80 + [2]
    assert len(last) > READING_BESIDE_A_DRAFT
    drafter.read(texts, [Reading(120, last, Draft()), Reading(1, [6, 7], Draft((7,)))])
    assert drafter.model.fed[1:] == [{0: [1] * 80}]
    assert propose(drafter, texts, 1, 1) == [(3,), (7,)]
    assert drafter.model.fed == [{0: [2], 1: [5, 6]}]


def test_a_draft_is_no_longer_than_the_model_has_room_for() -> None:
    drafter = ModelDrafter(counting(context_length=6))
    drafter.prepare(1, 40, 10)
    assert propose(drafter, [Text(0, [1, 2, 3, 4])], 9) == [(5, 6, 7)]
    assert propose(drafter, [Text(0, [1] * 6)], 9) == [(2,)]
    assert propose(drafter, [Text(0, [1] * 7)], 9) == [()]


# How many passes it takes


@pytest.fixture
def rolled_out(monkeypatch) -> list[int]:
    """How many tokens sessions were asked to draft by themselves."""
    counts: list[int] = []
    rollout = StatelessSession.rollout

    def counted(self, rows, tokens, count, vocab_size):
        counts.append(len(rows) * count)
        return rollout(self, rows, tokens, count, vocab_size)

    monkeypatch.setattr(StatelessSession, "rollout", counted)
    return counts


def test_greedy_drafts_of_all_lengths_roll_out_in_the_session(rolled_out) -> None:
    drafter = opened(rows=3)
    texts = [Text(0, [1, 2]), Text(1, [5]), Text(2, [3])]
    assert propose(drafter, texts, 4, 2, 1) == [(3, 4, 5, 6), (6, 7), (4,)]
    assert drafter.model.fed == [{0: [1, 2], 1: [5], 2: [3]}, {0: [3], 1: [6]}, {0: [4]}, {0: [5]}]
    assert rolled_out == [3, 2, 2]
    texts[0].tokens += [3, 4, 9]
    assert propose(drafter, texts[:1], 1) == [(0,)]
    assert drafter.model.fed == [{0: [9]}]


@pytest.mark.parametrize(
    "other", [SAMPLED, SamplingParams(temperature=0, seed=0, logit_bias={0: 50.0})], ids=["sampled", "biased"]
)
def test_where_one_row_has_other_settings_all_share_a_pass_per_token(other: SamplingParams, rolled_out) -> None:
    drafter = opened(rows=2)
    first, _ = propose(drafter, [Text(0, [1, 2]), Text(1, [5], other)], 3, 3)
    assert first == (3, 4, 5)
    assert [len(rows) for rows in drafter.model.fed] == [2, 2, 2]
    assert rolled_out == []


def test_greedy_drafts_that_stop_by_their_probability_are_chosen_together() -> None:
    drafter = opened(rows=2, min_survival=0.5, greedy=True)
    assert propose(drafter, [Text(0, [1, 2], SAMPLED), Text(1, [5], SAMPLED)], 2, 3) == [(3, 4), (6, 7, 8)]
    assert [len(rows) for rows in drafter.model.fed] == [2, 2, 1]


def test_a_draft_model_of_a_wider_vocabulary_drafts_the_targets_tokens_alone() -> None:
    for sampling in (GREEDY, SAMPLED):
        drafter = ModelDrafter(counting(10))
        drafter.prepare(1, 40, 6)
        (draft,) = drafter.propose([Text(0, [4], sampling)], [Budget(4, 4)])
        assert len(draft) == 4
        assert max(draft.tokens) < 6
        assert draft.q is None or draft.q.shape == (4, 6)


def test_a_draft_model_of_a_narrower_vocabulary_gives_the_rest_no_probability() -> None:
    drafter = ModelDrafter(counting(10))
    drafter.prepare(1, 40, 12)
    (draft,) = drafter.propose([Text(0, [4], SAMPLED)], [Budget(2, 2)])
    assert draft.q.shape == (2, 12)
    assert draft.q[:, 10:].sum() == 0


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("make", [ModelDrafter, ModelTreeDrafter])
def test_where_a_grammar_forbids_all_that_the_draft_model_knows_the_draft_ends(make, temperature: float) -> None:
    def grammar(output, logits):
        allowed = np.arange(len(logits)) == (11 if len(output) == 2 else 5)
        return np.where(allowed, logits, -np.inf).astype(np.float32)

    drafter = make(counting(10))
    drafter.prepare(2, 40, 12)
    settings = SamplingParams(temperature=temperature, seed=0, logits_processors=(grammar,))
    texts = [Text(0, [4], settings), Text(1, [4], GREEDY)]
    for _ in range(2):
        assert propose(drafter, texts, 4, 4) == [(5, 5), (5, 6, 7, 8)]
    forbidden = SamplingParams(seed=0, logits_processors=(lambda output, logits: logits - np.float32(np.inf),))
    assert propose(drafter, [Text(0, [4], forbidden)], 4) == [()]
