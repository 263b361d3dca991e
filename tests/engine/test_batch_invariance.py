"""A text does not depend on who shares its batch: real keys and values, in float32."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import outrider
from outrider import (
    Adaptive,
    Draft,
    Drafter,
    Engine,
    FinishReason,
    Goodput,
    LookaheadPolicy,
    ModelDrafter,
    Request,
    SamplingParams,
)
from outrider.engine import feeds as feeds_module
from outrider.runtimes.base import Model, Pass, Scored
from outrider.runtimes.ledger import LedgerSession
from tiny import model as tiny_model

KINDS = (
    SamplingParams(),
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(top_k=5, repetition_penalty=1.3),
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Model]:
    """A target, and two draft models for it."""
    pytest.importorskip("transformers")
    folder: Path = tmp_path_factory.mktemp("models")
    folders = [tiny_model.save(folder / str(seed), seed=seed) for seed in range(2)]
    return [outrider.load(str(each), dtype="float32") for each in folders]


def requests(count: int) -> list[Request]:
    return [
        Request(
            tuple((3 + number + 5 * place) % 15 for place in range(1 + 7 * number % 23)),
            6 + number % 9,
            SamplingParams(**{**_settings(KINDS[number % len(KINDS)]), "seed": number}),
            frozenset({2}),
        )
        for number in range(count)
    ]


def _settings(sampling: SamplingParams) -> dict:
    return {name: getattr(sampling, name) for name in ("temperature", "top_k", "top_p", "repetition_penalty")}


def decode(
    target: Model,
    drafter: Drafter | None,
    asked: list[Request],
    rows: int,
    rule: str,
    lookahead: int | LookaheadPolicy = 3,
) -> list[tuple[list[int], FinishReason | None]]:
    engine = Engine(target, drafter, lookahead=lookahead, rule=rule, max_rows=rows, capacity=64)
    sequences = [engine.submit(request) for request in asked]
    while not engine.idle:
        engine.step()
    return [(sequence.tokens, sequence.finish_reason) for sequence in sequences]


@pytest.mark.parametrize("lookahead", [3, Adaptive, Goodput], ids=["fixed", "adaptive", "goodput"])
def test_under_coupled_a_text_is_the_same_in_any_company(models, lookahead, monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 16)
    target, draft = models
    asked = requests(12)
    alone = [decode(target, None, [request], 1, "coupled", 0)[0] for request in asked]
    policy = lookahead if isinstance(lookahead, int) else lookahead()
    assert decode(target, ModelDrafter(draft), asked, 5, "coupled", policy) == alone


@pytest.mark.parametrize("rule", ["token", "block"])
@pytest.mark.parametrize("rows", [2, 5])
def test_for_equal_noise_a_text_is_the_same_in_any_company(models, rule: str, rows: int, monkeypatch) -> None:
    """Under the other rules the lookahead matters, and so it is fixed."""
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 16)
    target, draft = models
    asked = requests(12)
    alone = [decode(target, ModelDrafter(draft), [request], 1, rule)[0] for request in asked]
    assert decode(target, ModelDrafter(draft), asked, rows, rule) == alone
    assert decode(target, ModelDrafter(draft), asked[::-1], rows, rule) == alone[::-1]


# What goes wrong in one text, or with its drafter, leaves the others as they are


class Failing(ModelDrafter):
    """Works for some rounds."""

    def __init__(self, model: Model, rounds: int) -> None:
        super().__init__(model)
        self.rounds = rounds

    def propose(self, sequences, budgets) -> list[Draft]:
        self.rounds -= 1
        if self.rounds < 0:
            raise RuntimeError("out of cheese")
        return super().propose(sequences, budgets)


@pytest.mark.parametrize("rounds", [0, 1, 5])
def test_a_drafter_that_dies_in_mid_run_changes_no_text(models, rounds: int) -> None:
    target, draft = models
    asked = requests(8)
    alone = [decode(target, None, [request], 1, "coupled", 0)[0] for request in asked]
    with pytest.warns(RuntimeWarning, match="out of cheese"):
        assert decode(target, Failing(draft, rounds), asked, 4, "coupled") == alone


class Spoiled:
    """A session that gives one text, known by its row, logits that are no numbers after some passes."""

    def __init__(self, session, row: int, passes: int) -> None:
        self._session, self.row, self.passes = session, row, passes

    def __getattr__(self, name: str):
        return getattr(self._session, name)

    def extend(self, work: Pass) -> Scored:
        scored = self._session.extend(work)
        self.passes -= 1
        if self.passes >= 0 or self.row not in work.rows:
            return scored
        before = work.rows.index(self.row)
        logits = scored.logits.clone()
        logits[sum(work.wanted[:before]) : sum(work.wanted[: before + 1])] = float("nan")
        return replace(scored, logits=logits)


class Spoiling:
    """A model whose sessions are Spoiled."""

    def __init__(self, model: Model, **settings) -> None:
        self._model, self._settings = model, settings

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def open(self, rows: int, capacity: int) -> Spoiled:
        return Spoiled(self._model.open(rows, capacity), **self._settings)


@pytest.mark.parametrize("drafting", [True, False], ids=["drafting", "plain"])
def test_a_row_without_numbers_ends_alone(models, drafting: bool) -> None:
    target, draft = models
    asked = requests(4)
    alone = [decode(target, None, [request], 1, "coupled", 0)[0] for request in asked]
    drafter = ModelDrafter(draft) if drafting else None
    spoiled = Spoiling(target, row=1, passes=2)
    engine = Engine(spoiled, drafter, lookahead=2, rule="coupled", max_rows=4, capacity=64)
    sequences = [engine.submit(request) for request in asked]
    while not engine.idle:
        engine.step()
    assert sequences[1].finish_reason is FinishReason.ERROR
    assert sequences[1].tokens == alone[1][0][: len(sequences[1].tokens)]
    for place in (0, 2, 3):
        assert (sequences[place].tokens, sequences[place].finish_reason) == alone[place]


def test_a_text_that_is_left_and_one_that_is_too_large_change_no_other(models) -> None:
    target, draft = models
    asked = requests(6)
    alone = [decode(target, None, [request], 1, "coupled", 0)[0] for request in asked]
    engine = Engine(target, ModelDrafter(draft), lookahead=3, rule="coupled", max_rows=3, capacity=64)
    sequences = [engine.submit(request) for request in asked]
    engine.step()
    with pytest.raises(outrider.InputError, match="a row of this engine holds 64"):
        engine.submit(Request((1,) * 60, 20, SamplingParams(seed=0)))
    engine.cancel(sequences[0])
    engine.cancel(sequences[4])
    while not engine.idle:
        engine.step()
    for place in (1, 2, 3, 5):
        assert (sequences[place].tokens, sequences[place].finish_reason) == alone[place]


# One pass of the draft model for each position, whoever drafts


class Counting:
    """A session that counts passes by how many rows they had."""

    def __init__(self, session) -> None:
        self._session = session
        self.rows_of_passes: list[int] = []

    def __getattr__(self, name: str):
        return getattr(self._session, name)

    def extend(self, work: Pass) -> Scored:
        self.rows_of_passes.append(len(work.rows))
        return self._session.extend(work)

    def rollout(self, rows, tokens, count, vocab_size):
        return LedgerSession.rollout(self, rows, tokens, count, vocab_size)


class Different(LookaheadPolicy):
    """0, 1, 2, 3 ... for one sequence after the other."""

    def plan(self, sequences) -> list[int]:
        return list(range(len(sequences)))


def test_the_batch_drafts_in_one_pass_per_position_and_rows_that_are_done_sit_out(models) -> None:
    target, draft = models
    drafter = ModelDrafter(draft)
    engine = Engine(target, drafter, lookahead=Different(), max_rows=5, capacity=64)
    drafter.cache.session = counting = Counting(drafter.cache.session)
    for request in requests(5):
        engine.submit(Request(request.prompt[:4], 40, request.sampling, stop_token_ids=frozenset()))
    engine.step()
    # Lookaheads of 0, 1, 2, 3 and 4: four rows draft a first token, three a second one, and so on.
    assert counting.rows_of_passes == [4, 3, 2, 1]
    engine.step()
    assert Counter(counting.rows_of_passes) == Counter({4: 2, 3: 2, 2: 2, 1: 2})
