"""What a user holds of a text in an engine, and how it is let go."""

import math

import numpy as np
import pytest

from outrider import (
    Draft,
    Drafter,
    Engine,
    FinishReason,
    FunctionModel,
    Handle,
    ModelError,
    Request,
    SamplingParams,
    SpeculativeDecoder,
    SuffixDrafter,
    TableModel,
)
from tiny.tables import TARGET

PROMPT = (0, 1, 2)


class Letters:
    fingerprint = "letters"

    def encode(self, text):
        return ["abcde".index(letter) for letter in text]

    def decode(self, tokens):
        return "".join("abcde"[token] for token in tokens)

    def encode_chat(self, messages):
        return None


def engine_of(target=TARGET, drafter=None, **settings):
    return Engine(target, drafter, **{"lookahead": 0, "capacity": 64, **settings})


def run(engine):
    events = []
    while not engine.idle:
        events += engine.step()
    return events


class Stumbling(Letters):
    """As a tokenizer that has fewer tokens than the model has logits."""

    def decode(self, tokens):
        if 4 in tokens:
            raise IndexError("piece id is out of range")
        return super().decode(tokens)


@pytest.mark.parametrize("drafter", [None, SuffixDrafter])
def test_a_tokenizer_that_fails_ends_the_text_alone(drafter):
    engine = engine_of(TableModel(TARGET.table, tokenizer=Stumbling()), drafter and drafter(), lookahead=3, max_rows=2)
    failed = engine.submit(Request(PROMPT, 20, SamplingParams(seed=1)))
    other = engine.submit(Request(PROMPT, 20, SamplingParams(seed=1, logit_bias={4: -math.inf})))
    run(engine)
    assert failed.finish_reason is FinishReason.ERROR
    assert isinstance(failed.error, ModelError)
    assert "failed on this text alone: piece id is out of range" in str(failed.error)
    assert (other.error, len(other.tokens), len(other.text)) == (None, 20, 20)


def test_so_it_does_while_a_round_is_rolled_back():
    failing = []

    class Failing(Letters):
        def decode(self, tokens):
            if failing:
                raise IndexError("piece id is out of range")
            return super().decode(tokens)

    def interrupted(record):
        failing.append(record)
        raise KeyboardInterrupt

    engine = engine_of(TableModel(TARGET.table, tokenizer=Failing()), observer=interrupted)
    handle = engine.submit(Request(PROMPT, 20, SamplingParams(seed=1)))
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    assert isinstance(handle.error, ModelError)
    engine.step()
    assert engine.idle


def test_a_handle_follows_its_text():
    engine = engine_of(TableModel(TARGET.table, tokenizer=Letters()))
    handle = engine.submit(Request("abc", 5, SamplingParams(seed=3)))
    assert isinstance(handle, Handle)
    assert (handle.tokens, handle.text, handle.finish_reason, handle.error) == ([], "", None, None)
    read = []
    while handle.finish_reason is None:
        read += engine.step()
        assert handle.tokens == [event.token for event in read]
        assert handle.text == "".join(event.text for event in read)
        assert handle.stats.emitted == len(read)
    assert {event.sequence for event in read} == {handle.id}
    assert handle.finish_reason is FinishReason.LENGTH


def test_a_handle_shows_nothing_else():
    shown = {name for name in dir(Handle) if not name.startswith("_")}
    reading = {"prompt_length", "prompt_read"}
    assert shown == {"id", "tokens", "text", "finish_reason", "error", "stats", "seed", "cancel"} | reading


def test_its_tokens_are_a_copy():
    engine = engine_of()
    handle = engine.submit(Request(PROMPT, 3))
    run(engine)
    handle.tokens.clear()
    assert len(handle.tokens) == 3


def test_the_engine_draws_a_seed_and_says_which():
    engine = engine_of(rule="coupled")
    handles = [engine.submit(Request(PROMPT, 12)) for _ in range(3)]
    run(engine)
    assert len({handle.seed for handle in handles}) == 3
    for handle in handles:
        again = SpeculativeDecoder(None, TARGET, rule="coupled").generate(PROMPT, max_tokens=12, seed=handle.seed)
        assert again.tokens == handle.tokens
    assert engine_of().submit(Request(PROMPT, 1, SamplingParams(seed=4))).seed == 4


def test_a_text_that_is_not_wanted_is_not_made():
    engine = engine_of(TableModel(TARGET.table, tokenizer=Letters()))
    handle = engine.submit(Request("abc", 5, detokenize=False))
    assert {event.text for event in run(engine)} == {""}
    assert (handle.text, len(handle.tokens)) == ("", 5)


def test_handles_of_one_text_are_equal():
    engine = engine_of(max_rows=1)
    first, second = (engine.submit(Request(PROMPT, 3)) for _ in range(2))
    engine.step()
    assert (engine.active, engine.waiting) == ([first], [second])
    assert first != second
    assert len({first, second, *engine.active, *engine.waiting}) == 2


class Watched(TableModel):
    """Writes down which rows its passes are over."""

    def __init__(self):
        super().__init__(TARGET.table)
        self.passes = []

    def open(self, rows, capacity):
        session = super().open(rows, capacity)
        extend = session.extend

        def watched(work):
            self.passes.append(list(work.rows))
            return extend(work)

        session.extend = watched
        return session


@pytest.mark.parametrize("cancel", [Handle.cancel, None], ids=["handle", "engine"])
def test_a_waiting_text_that_is_cancelled_gets_no_row_no_pass_and_no_token(cancel):
    target = Watched()
    engine = engine_of(target, max_rows=2)
    waiting = engine.submit(Request(PROMPT, 5))
    target.passes.clear()
    engine.cancel(waiting) if cancel is None else cancel(waiting)
    assert waiting.finish_reason is FinishReason.CANCELLED
    assert engine.idle
    assert engine.step() == []
    assert target.passes == []
    assert waiting.tokens == []


def test_a_text_that_is_cancelled_leaves_its_row_to_the_next():
    engine = engine_of(max_rows=1)
    first, second = (engine.submit(Request(PROMPT, 50)) for _ in range(2))
    engine.step()
    before = first.tokens
    first.cancel()
    assert {event.sequence for event in engine.step()} == {second.id}
    assert first.tokens == before
    first.cancel()
    second.cancel()
    assert engine.idle
    assert first.finish_reason is second.finish_reason is FinishReason.CANCELLED


def test_a_finished_text_stays_as_it_is():
    engine = engine_of()
    handle = engine.submit(Request(PROMPT, 2))
    run(engine)
    handle.cancel()
    assert handle.finish_reason is FinishReason.LENGTH


class Meddling(Drafter):
    """Cancels a text in the midst of a round."""

    def __init__(self, where):
        self.where = where
        self.handle = None

    def propose(self, sequences, budgets):
        if self.where == "propose":
            self.handle.cancel()
        return [Draft((1,) * min(budget.longest, 2)) for budget in budgets]

    def observe(self, sequence, draft, verdict):
        if self.where == "observe":
            self.handle.cancel()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("where", ["propose", "observe", "record"])
def test_a_text_may_be_cancelled_in_the_midst_of_a_round(where):
    drafter = Meddling(where)
    engine = engine_of(
        drafter=drafter,
        lookahead=2,
        rule="coupled",
        observer=lambda record: drafter.handle.cancel() if where == "record" else None,
    )
    doomed = drafter.handle = engine.submit(Request(PROMPT, 20, SamplingParams(seed=1)))
    other = engine.submit(Request(PROMPT, 20, SamplingParams(seed=3)))
    engine.step()
    assert doomed.finish_reason is FinishReason.CANCELLED
    assert engine.active == [other]
    run(engine)
    plain = SpeculativeDecoder(None, TARGET, rule="coupled").generate(PROMPT, max_tokens=20, seed=3)
    assert other.tokens == plain.tokens
    assert (doomed.tokens == []) == (where == "propose")


def test_what_a_text_failed_of_is_there_to_read():
    engine = engine_of(FunctionModel(lambda tokens: np.full((tokens.shape[1], 5), np.nan), vocab_size=5))
    handle = engine.submit(Request(PROMPT, 5))
    run(engine)
    assert handle.finish_reason is FinishReason.ERROR
    assert isinstance(handle.error, ModelError)
    assert handle.tokens == []


def test_it_says_what_it_is():
    engine = engine_of()
    handle = engine.submit(Request(PROMPT, 2))
    assert repr(handle) == "Handle(0, unfinished, 0 tokens)"
    run(engine)
    assert repr(handle) == "Handle(0, length, 2 tokens)"
