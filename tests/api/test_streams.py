"""Streams: context managers that say how far they are, side by side, closed early, dropped, interrupted."""

import gc
import warnings
from itertools import islice

import numpy as np
import pytest

from outrider import (
    Draft,
    Drafter,
    Engine,
    FinishReason,
    Fixed,
    FunctionModel,
    Generation,
    ModelDrafter,
    ModelError,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    TableModel,
)
from outrider.engine import feeds as feeds_module
from tiny.tables import DRAFT, TARGET

PROMPT = (0, 1, 2)
SEEDED = SamplingParams(seed=3)
WORDS = "abcde"


class Letters:
    """A tokenizer of one token a letter."""

    fingerprint = "letters"

    def encode(self, text):
        return [WORDS.index(letter) for letter in text]

    def decode(self, tokens):
        return "".join(WORDS[token] for token in tokens)

    def encode_chat(self, messages):
        return [0, *self.encode("".join(message["content"] for message in messages)), 4]


TALKING = TableModel(TARGET.table, tokenizer=Letters())


def decoder_of(drafter=None, target=TARGET, **settings):
    return SpeculativeDecoder(ModelDrafter(DRAFT) if drafter is None else drafter, target, 3, **settings)


def plain(prompt=PROMPT, **settings):
    return SpeculativeDecoder(None, TARGET, rule="coupled").generate(
        prompt, **{"max_tokens": 20, "sampling": SEEDED, **settings}
    )


def test_a_stream_gives_the_tokens_of_generate() -> None:
    decoder = decoder_of()
    stream = decoder.stream(PROMPT, max_tokens=20, sampling=SEEDED)
    tokens = [event.token for event in stream]
    assert tokens == decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED).tokens
    assert stream.stats.emitted == 20
    assert stream.seed == 3


def test_a_stream_says_how_much_of_the_prompt_is_read(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    decoder, prompt = decoder_of(), PROMPT * 16
    expected = decoder_of().generate(prompt, max_tokens=20, sampling=SEEDED).tokens
    stream = decoder.stream(prompt, max_tokens=20, sampling=SEEDED)
    assert list(stream.reading()) == [(20, 48), (40, 48), (48, 48)]
    assert list(stream.reading()) == []
    assert [event.token for event in stream] == expected
    assert list(stream.reading()) == []
    another = decoder.stream((4, *prompt), max_tokens=20, sampling=SEEDED)
    for _ in another.reading():
        break  # whoever has seen enough goes on
    assert another.finish_reason is None
    assert len(list(another)) == 20


def test_an_interrupt_while_a_prompt_is_read_ends_the_text(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    decoder = decoder_of()
    stream = decoder.stream(PROMPT * 16, max_tokens=20)
    reading = stream.reading()
    next(reading)
    monkeypatch.setattr(Engine, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(reading)
    assert stream.finish_reason is FinishReason.CANCELLED


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_stream_says_how_far_it_was_read() -> None:
    expected = decoder_of(target=TALKING).generate("abc", max_tokens=20, seed=3)
    with decoder_of(target=TALKING).stream("abc", max_tokens=20, seed=3) as stream:
        for read, event in enumerate(stream, start=1):
            assert stream.tokens == expected.tokens[:read]
            assert stream.text == expected.text[:read]
            assert stream.finish_reason is event.finish_reason
    assert stream.finish_reason is FinishReason.LENGTH
    assert stream.text == expected.text
    assert list(stream) == []


@pytest.mark.parametrize("read", [0, 1, 7, 20])
def test_the_rest_of_a_stream_is_read_at_once(read: int) -> None:
    asked = {"max_tokens": 20, "seed": 3, "logprobs": 2}
    expected = decoder_of(target=TALKING).generate("abc", **asked)
    stream = decoder_of(target=TALKING).stream("abc", **asked)
    list(islice(stream, read))
    found = stream.generation()
    assert isinstance(found, Generation)
    for name in ("tokens", "text", "finish_reason", "logprobs", "top_logprobs", "seed"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.mark.parametrize("read", [0, 1, 5])
def test_a_closed_stream_has_what_was_read(read: int) -> None:
    with decoder_of().stream(PROMPT, max_tokens=20, sampling=SEEDED) as stream:
        tokens = [event.token for event in islice(stream, read)]
    assert stream.finish_reason is FinishReason.CANCELLED
    assert stream.tokens == tokens
    assert list(stream) == []
    generation = stream.generation()
    assert (generation.tokens, generation.finish_reason) == (tokens, FinishReason.CANCELLED)


class Opened(TableModel):
    """Counts how often it is opened."""

    def __init__(self) -> None:
        super().__init__(TARGET.table)
        self.opened = 0

    def open(self, rows, capacity):
        self.opened += 1
        return super().open(rows, capacity)


@pytest.mark.parametrize("read", [0, 1, 5])
@pytest.mark.parametrize("leave", ["close", "with", "drop"])
def test_a_stream_that_is_left_makes_room_for_the_next_text(read: int, leave: str) -> None:
    target = Opened()
    decoder = decoder_of(target=target)
    stream = decoder.stream(PROMPT, max_tokens=20, sampling=SEEDED)
    list(islice(stream, read))
    if leave == "close":
        stream.close()
    elif leave == "with":
        with stream:
            pass
    del stream
    gc.collect()
    assert decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED).stats.drafted > 0
    assert target.opened == 1


def test_a_key_in_the_midst_of_a_stream_ends_it() -> None:
    def interrupting(record):
        if record.number == 2:
            raise KeyboardInterrupt

    decoder = decoder_of(observer=interrupting)
    stream = decoder.stream(PROMPT, max_tokens=20, sampling=SEEDED)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert stream.finish_reason is FinishReason.CANCELLED
    assert stream.tokens == decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED).tokens[: len(stream.tokens)]


def test_a_stream_that_fails_says_why() -> None:
    def function(tokens):
        logits = np.stack([TARGET.logits_after(tokens[0, : end + 1].tolist()) for end in range(tokens.shape[1])])
        logits[8:] = np.nan
        return logits

    stream = SpeculativeDecoder(None, FunctionModel(function, vocab_size=5)).stream(PROMPT, max_tokens=20)
    with pytest.raises(ModelError, match="finite"):
        list(stream)
    assert stream.finish_reason is FinishReason.ERROR
    assert len(stream.tokens) == 6
    with pytest.raises(ModelError, match="finite"):
        stream.generation()


def test_a_request_may_be_started_as_it_is() -> None:
    request = Request("abc", 12, SEEDED, logprobs=True)
    decoder = decoder_of(target=TALKING)
    assert (
        decoder.start(request).generation().logprobs
        == decoder.generate("abc", max_tokens=12, sampling=SEEDED, logprobs=True).logprobs
    )


def test_draft_generation_does_not_disturb_an_open_stream() -> None:
    decoder = decoder_of()
    stream = decoder.stream(PROMPT, max_tokens=20, sampling=SEEDED)
    with pytest.raises(SettingError, match="finish or close the stream first"):
        decoder.draft_generation(PROMPT, 4)
    stream.close()
    assert len(decoder.draft_generation(PROMPT, 4)) == 4
    assert decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED).stats.drafted > 0


# Side by side


class OneOfAKind(Drafter):
    """Drafts, and cannot be copied."""

    def propose(self, sequences, budgets):
        return [Draft((1,) * min(budget.longest, 1)) for budget in budgets]


def side_by_side(streams):
    """A token of each, by turns."""
    return [[event.token for event in events] for events in zip(*streams, strict=True)]


def test_two_streams_at_once_do_not_disturb_each_other() -> None:
    decoder = decoder_of(OneOfAKind(), rule="coupled")
    prompts = [(0, 1, 2), (4, 4), (3,)]
    expected = [plain(prompt).tokens for prompt in prompts]
    with pytest.warns(RuntimeWarning, match="this text is decoded plainly") as caught:
        streams = [decoder.stream(prompt, max_tokens=20, sampling=SEEDED) for prompt in prompts]
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [list(column) for column in zip(*side_by_side(streams), strict=True)] == expected
    # Only one of them had the drafter, and it is there for the next text.
    assert [stream.stats.drafted > 0 for stream in streams] == [True, False, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED).stats.drafted > 0


@pytest.mark.parametrize("lookahead", [3, None], ids=["fixed", "goodput"])
@pytest.mark.filterwarnings("error")
def test_a_draft_model_drafts_for_every_stream(lookahead) -> None:
    decoder = SpeculativeDecoder(DRAFT, TARGET, lookahead, rule="coupled")
    prompts = [(0, 1, 2), (4, 4), (3,)]
    streams = [decoder.stream(prompt, max_tokens=200, sampling=SEEDED) for prompt in prompts]
    tokens = list(zip(*side_by_side(streams), strict=True))
    assert [list(column) for column in tokens] == [plain(prompt, max_tokens=200).tokens for prompt in prompts]
    assert all(stream.stats.drafted for stream in streams)


def test_a_policy_of_ones_own_plans_for_one_stream() -> None:
    decoder = SpeculativeDecoder(DRAFT, TARGET, Fixed(3), rule="coupled")
    with decoder.stream(PROMPT, max_tokens=12, sampling=SEEDED) as stream:
        next(stream)
        with pytest.warns(RuntimeWarning, match="this text is decoded plainly"):
            assert decoder.generate(PROMPT, max_tokens=12, sampling=SEEDED).tokens == stream.generation().tokens


@pytest.mark.filterwarnings("error")
def test_without_a_drafter_there_is_nothing_to_warn_of() -> None:
    decoder = SpeculativeDecoder(None, TARGET)
    with decoder.stream(PROMPT, max_tokens=5) as stream:
        next(stream)
        assert len(decoder.generate(PROMPT, max_tokens=5).tokens) == 5


# Samples


@pytest.mark.parametrize("n", [1, 3, 20])
def test_samples_are_what_their_seeds_give(n: int) -> None:
    decoder = decoder_of(rule="coupled")
    samples = decoder.generate(PROMPT, n=n, max_tokens=12, seed=7)
    assert [sample.seed for sample in samples] == list(range(7, 7 + n))
    assert [sample.tokens for sample in samples] == [
        plain(max_tokens=12, sampling=SamplingParams(seed=7 + number)).tokens for number in range(n)
    ]
    assert all(sample.stats.drafted for sample in samples)


def test_samples_differ_without_a_seed() -> None:
    samples = decoder_of().generate(PROMPT, n=6, max_tokens=12)
    assert len({tuple(sample.tokens) for sample in samples}) > 1
    assert len({sample.seed for sample in samples}) == 6


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_a_number_of_samples_that_makes_no_sense_is_refused(n) -> None:
    with pytest.raises(SettingError, match="n is "):
        decoder_of().generate(PROMPT, n=n)


def test_samples_beside_an_open_stream() -> None:
    decoder = decoder_of(rule="coupled")
    decoder.generate(PROMPT, n=4, max_tokens=12)  # rows for four
    with decoder.stream(PROMPT, max_tokens=12, sampling=SEEDED) as stream:
        next(stream)
        samples = decoder.generate(PROMPT, n=2, max_tokens=12, seed=3)
        assert stream.generation().tokens == samples[0].tokens == plain(max_tokens=12).tokens
        assert all(sample.stats.drafted for sample in samples)


def test_one_sample_that_fails_fails_all_and_leaves_the_decoder_usable() -> None:
    table = TARGET.table.copy()
    table[0, 1] = np.nan
    decoder = decoder_of(target=TableModel(table))
    with pytest.raises(ModelError):
        decoder.generate(PROMPT, n=5, max_tokens=200, seed=1)
    assert decoder.generate((2,), n=2, max_tokens=1)


# Chat and settings by name


def test_chat_is_generate_through_the_chat_template() -> None:
    decoder = decoder_of(target=TALKING)
    messages = [{"role": "user", "content": "abc"}]
    expected = decoder.generate((0, 0, 1, 2, 4), max_tokens=9, seed=1).tokens
    assert decoder.chat(messages, max_tokens=9, seed=1).tokens == expected
    assert decoder.chat("abc", max_tokens=9, seed=1).tokens == expected
    assert decoder.chat("abc", n=2, max_tokens=9, seed=1)[0].tokens == expected
    with pytest.raises(ValueError, match="a conversation is a list of messages"):
        decoder.chat([0, 1])


def test_sampling_settings_may_be_given_by_name() -> None:
    decoder = decoder_of()
    params = SamplingParams(temperature=0.7, top_p=0.9, seed=5)
    expected = decoder.generate(PROMPT, max_tokens=9, sampling=params).tokens
    assert decoder.generate(PROMPT, max_tokens=9, temperature=0.7, top_p=0.9, seed=5).tokens == expected
    assert decoder.generate(PROMPT, max_tokens=9, sampling=params, seed=5).tokens == expected
    assert decoder.stream(PROMPT, max_tokens=9, sampling=params, seed=6).seed == 6
    assert decoder.draft_generation(PROMPT, 4, temperature=0) == decoder.draft_generation(
        PROMPT, 4, sampling=SamplingParams(temperature=0)
    )
    with pytest.raises(SettingError, match="top_p is 2"):
        decoder.generate(PROMPT, top_p=2)
    with pytest.raises(TypeError, match="temprature"):
        decoder.generate(PROMPT, temprature=1)


# Log probabilities


@pytest.mark.parametrize("top", [1, 3, 5, 50])
def test_the_most_probable_tokens_are_reported_with_each(top: int) -> None:
    generation = decoder_of().generate(PROMPT, max_tokens=20, seed=3, temperature=0.5, logprobs=top)
    assert len(generation.top_logprobs) == len(generation.logprobs) == 20
    for place, most in enumerate(generation.top_logprobs):
        logits = TARGET.logits_after([*PROMPT, *generation.tokens[:place]]).astype(float)
        expected = logits - np.log(np.exp(logits).sum())
        order = np.argsort(-expected)[:top]
        assert list(most) == order.tolist()
        assert list(most.values()) == pytest.approx(expected[order], abs=1e-5)
        token = generation.tokens[place]
        if token in most:
            assert generation.logprobs[place] == pytest.approx(most[token], abs=1e-6)


def test_none_are_reported_unless_asked_for() -> None:
    assert decoder_of().generate(PROMPT, max_tokens=3, logprobs=True).top_logprobs is None
    generation = decoder_of().generate(PROMPT, max_tokens=3, logprobs=0)
    assert generation.logprobs is generation.top_logprobs is None
