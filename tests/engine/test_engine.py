"""The engine and the classic interface: limits, stops, failures, batches and book-keeping."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import pytest

from exactness.drafters import TreeDrafter
from exactness.statistics import reference_distribution
from outrider import (
    Adaptive,
    Draft,
    Drafter,
    Engine,
    FinishReason,
    Fixed,
    FunctionModel,
    InputError,
    ModelDrafter,
    ModelError,
    Origin,
    QueueFullError,
    Request,
    RoundRecord,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
    TableModel,
)
from outrider.maths.rules import RULES
from tiny.tables import DRAFT, TARGET

PROMPT = (0, 1, 2)
SEEDED = SamplingParams(seed=3)
GREEDY = SamplingParams(temperature=0)


def generate(drafter: Drafter | None, target=TARGET, lookahead=3, rule="coupled", prompt=PROMPT, **arguments):
    arguments = {"max_tokens": 20, "sampling": SEEDED} | arguments
    return SpeculativeDecoder(drafter, target, lookahead, rule=rule).generate(prompt, **arguments)


# Drafters that fail


class FailingDrafter(ModelDrafter):
    """Works for two rounds, then does not."""

    name = "failing"

    def __init__(self, failure: Callable[[int], Draft]) -> None:
        super().__init__(DRAFT, name="failing")
        self.failure = failure
        self.rounds = 0

    def propose(self, sequences, budgets):
        self.rounds += 1
        if self.rounds > 2:
            return [self.failure(budget.longest) for budget in budgets]
        return super().propose(sequences, budgets)


class ForgetsToObserve(ModelDrafter):
    def observe(self, sequence, draft, verdict):
        raise RuntimeError("out of cheese")


class CannotForget(ModelDrafter):
    def forget(self, sequence):
        raise RuntimeError("out of cheese")


class CannotPrepare(ModelDrafter):
    def prepare(self, rows, capacity, vocab_size):
        raise RuntimeError("out of cheese")


def raises(limit: int) -> Draft:
    raise RuntimeError("out of cheese")


FAILURES = {
    "raises": lambda: FailingDrafter(raises),
    "drafts too much": lambda: FailingDrafter(lambda limit: Draft((0,) * (limit + 1))),
    "drafts an unknown token": lambda: FailingDrafter(lambda limit: Draft((5,) * min(limit, 1))),
    "drafts a negative token": lambda: FailingDrafter(lambda limit: Draft((-1,) * min(limit, 1))),
    "raises in observe": lambda: ForgetsToObserve(DRAFT),
    "raises in prepare": lambda: CannotPrepare(DRAFT),
    "raises in forget": lambda: CannotForget(DRAFT),
}


@pytest.mark.parametrize("sampling", [SEEDED, GREEDY], ids=["coupled", "greedy"])
@pytest.mark.parametrize("failure", FAILURES)
def test_a_drafter_that_fails_is_dropped_and_the_text_is_the_same(failure: str, sampling) -> None:
    with pytest.warns(RuntimeWarning, match="failed and is dropped; decoding goes on plainly"):
        generation = generate(FAILURES[failure](), sampling=sampling)
    assert generation.tokens == generate(None, sampling=sampling).tokens


def test_a_dropped_drafter_is_not_asked_again() -> None:
    drafter = FailingDrafter(raises)
    with pytest.warns(RuntimeWarning) as caught:
        generate(drafter)
    assert len(caught) == 1
    assert drafter.rounds == 3


def test_a_drafter_that_failed_once_is_tried_again_with_the_next_text() -> None:
    drafter = FailingDrafter(raises)
    decoder = SpeculativeDecoder(drafter, TARGET, 3, rule="coupled")
    with pytest.warns(RuntimeWarning):
        first = decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED)
    drafter.rounds = -100
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = decoder.generate(PROMPT, max_tokens=20, sampling=SEEDED)
    assert first.tokens == again.tokens == generate(None).tokens
    assert again.stats.drafted > first.stats.drafted > 0
    assert (first.stats.drafter_failures, again.stats.drafter_failures) == (1, 0)


def test_a_drafter_that_goes_on_failing_is_tried_less_and_less_often() -> None:
    drafter = FailingDrafter(raises)
    engine = Engine(TARGET, drafter, lookahead=3, rule="coupled", capacity=64)
    failures = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for _ in range(16):
            text = engine.submit(Request(PROMPT, 20, SEEDED))
            while not engine.idle:
                engine.step()
            assert text.tokens == generate(None).tokens
            failures.append(engine.drafter_failures)
    assert failures == [1, 2, 2, 3, 3, 3, 3, *[4] * 8, 5]


def test_a_drafter_that_cannot_be_prepared_is_not_tried_again() -> None:
    with pytest.warns(RuntimeWarning):
        engine = Engine(TARGET, CannotPrepare(DRAFT), lookahead=3, capacity=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.submit(Request(PROMPT, 2, SEEDED))
    assert engine.drafter is None


def test_a_text_with_a_token_that_a_narrower_draft_model_lacks_is_decoded_plainly_and_the_others_are_drafted_for():
    narrow = ModelDrafter(TableModel(DRAFT.table[:-1, :-1, :-1]))  # tokenizers would say that this is padding
    last = TARGET.traits.vocab_size - 1
    engine = Engine(TARGET, narrow, lookahead=3, rule="coupled", capacity=64)
    never = SamplingParams(seed=3, logit_bias={last: -math.inf})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = [engine.submit(Request(prompt, 20, never)) for prompt in ((0, last, 1), PROMPT, (1, 0))]
        while not engine.idle:
            engine.step()
    assert [text.stats.drafted > 0 for text in texts] == [False, True, True]
    for text, prompt in zip(texts, ((0, last, 1), PROMPT, (1, 0)), strict=True):
        assert text.tokens == generate(None, prompt=prompt, sampling=never).tokens


# Limits and stops


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("max_tokens", range(1, 9))
def test_exactly_max_tokens_are_emitted(rule: str, max_tokens: int) -> None:
    generation = generate(ModelDrafter(DRAFT), rule=rule, max_tokens=max_tokens)
    assert len(generation.tokens) == max_tokens
    assert generation.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("lookahead", [0, 1, 4])
def test_a_text_ends_with_the_context(lookahead: int) -> None:
    target = TableModel(TARGET.table, context_length=10)
    generation = generate(ModelDrafter(DRAFT), target, lookahead, max_tokens=100)
    assert len(generation.tokens) == 10 - len(PROMPT)
    assert generation.finish_reason is FinishReason.LENGTH


def test_a_draft_model_of_a_shorter_context_drafts_while_it_can() -> None:
    drafter = ModelDrafter(TableModel(DRAFT.table, context_length=8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generation = generate(drafter)
    assert generation.stats.drafted > 0
    assert generation.tokens == generate(None).tokens


def test_a_stop_token_ends_the_text_and_is_emitted() -> None:
    whole = generate(None).tokens
    stop = whole[4]
    generation = generate(ModelDrafter(DRAFT), stop_token_ids=[stop])
    assert generation.tokens == whole[: whole.index(stop) + 1]
    assert generation.finish_reason is FinishReason.STOP


def test_the_targets_own_stop_tokens_are_the_default() -> None:
    target = TableModel(TARGET.table, stop_token_ids=frozenset({0}))
    assert generate(None, target).tokens[-1] == 0
    assert generate(None, target, stop_token_ids=()).tokens == generate(None).tokens


@pytest.mark.parametrize("rule", RULES)
def test_tokens_past_a_stop_are_neither_emitted_nor_counted(rule: str) -> None:
    for seed in range(30):
        generation = generate(
            ModelDrafter(TARGET),
            lookahead=6,
            rule=rule,
            stop_token_ids=[1],
            sampling=SamplingParams(seed=seed),
        )
        assert 1 not in generation.tokens[:-1]
        assert generation.stats.emitted == len(generation.tokens)
        assert generation.stats.origins.total() == len(generation.tokens)


class Recorder(ModelDrafter):
    """Writes down how far it was asked to look ahead, and how much room there was."""

    def __init__(self) -> None:
        super().__init__(DRAFT)
        self.asked: list[tuple[int, int]] = []

    def propose(self, sequences, budgets):
        self.asked += [(budget.longest, sequence.room) for sequence, budget in zip(sequences, budgets, strict=True)]
        return super().propose(sequences, budgets)


def test_the_lookahead_never_reaches_past_the_end() -> None:
    recorder = Recorder()
    generate(recorder, lookahead=5)
    assert all(limit == min(5, room - 1) for limit, room in recorder.asked)
    assert min(limit for limit, _ in recorder.asked) < 5


@pytest.mark.parametrize(
    "prompt, message",
    [
        ([], "the prompt is empty"),
        ([0, 5], "prompt token 5 is outside the vocabulary of 5"),
        ([-1], "prompt token -1 is outside the vocabulary of 5"),
        ([0] * 10, "the prompt has 10 tokens and the context of table holds 10: shorten it to 9 or less"),
        ([0.5], "token ids must be whole numbers"),
        ("text", "a prompt of text needs a tokenizer"),
    ],
)
def test_a_prompt_that_cannot_be_decoded_is_refused(prompt, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(None, TableModel(TARGET.table, context_length=10), prompt=prompt)


@pytest.mark.parametrize("make", [list, tuple, np.array, lambda tokens: np.array([tokens])])
def test_a_prompt_may_be_any_row_of_whole_numbers(make) -> None:
    assert generate(None, prompt=make(PROMPT)).tokens == generate(None).tokens


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(SettingError, match="max_tokens is 0: it must be at least 1"):
        generate(None, max_tokens=0)
    with pytest.raises(SettingError, match="rule 'typical' is unknown"):
        generate(None, rule="typical")
    with pytest.raises(SettingError, match="lookahead is -1"):
        generate(None, lookahead=-1)
    with pytest.raises(SettingError, match="stop strings need a tokenizer"):
        generate(None, stop=["."])


# Book-keeping


def statistics_of_many(rule: str, lookahead: int) -> list:
    decoder = SpeculativeDecoder(ModelDrafter(DRAFT), TARGET, lookahead, rule=rule)
    return [decoder.generate(PROMPT, max_tokens=15, sampling=SamplingParams(seed=seed)).stats for seed in range(20)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lookahead", [0, 1, 4])
def test_the_statistics_add_up(rule: str, lookahead: int) -> None:
    for stats in statistics_of_many(rule, lookahead):
        origins = stats.origins
        assert stats.emitted == 15 == origins.total()
        assert stats.rounds == origins.total() - origins[Origin.DRAFTED]
        assert stats.accepted == origins[Origin.DRAFTED] == sum(stats.accepted_at)
        assert stats.drafted == sum(stats.drafted_at)
        assert len(stats.drafted_at) == len(stats.accepted_at) <= lookahead
        assert all(accepted <= drafted for accepted, drafted in zip(stats.accepted_at, stats.drafted_at, strict=True))
        assert stats.accepted_at == sorted(stats.accepted_at, reverse=True)
        assert stats.mean_tokens_per_round == 15 / stats.rounds
        assert stats.acceptance_rate == (stats.accepted / stats.drafted if stats.drafted else 0)
        assert min(stats.seconds_prefill, stats.seconds_drafting, stats.seconds_verification) >= 0


def test_plain_decoding_has_only_plain_tokens() -> None:
    for stats in statistics_of_many("token", 0):
        assert set(stats.origins) == {Origin.PLAIN}
        assert stats.drafted == 0


def test_every_event_says_where_its_token_came_from() -> None:
    decoder = SpeculativeDecoder(ModelDrafter(DRAFT, name="little brother"), TARGET, 3)
    events = list(decoder.stream(PROMPT, max_tokens=60, sampling=SEEDED))
    assert [event.index for event in events] == list(range(60))
    assert all((event.source == "little brother") == (event.origin is Origin.DRAFTED) for event in events)
    assert [event.finish_reason for event in events] == [None] * 59 + [FinishReason.LENGTH]
    assert {event.origin for event in events} >= {Origin.DRAFTED, Origin.CORRECTION, Origin.BONUS}


@pytest.mark.parametrize("drafter", [None, ModelDrafter(DRAFT), TreeDrafter(DRAFT, 2)], ids=["none", "chain", "tree"])
def test_records_hold_every_draft_and_its_accepted_path(drafter: Drafter | None) -> None:
    records: list[RoundRecord] = []
    decoder = SpeculativeDecoder(drafter, TARGET, 3, observer=records.append)
    decoder.generate(PROMPT, max_tokens=40, sampling=SEEDED)
    parts = [part for record in records for part in record.sequences]
    for part in parts:
        draft = part.draft
        assert (draft is None) == (part.drafted == 0)
        if draft is None:
            continue
        assert len(draft.tokens) == len(draft.parents) == len(draft.sources) == part.drafted
        assert len(draft.path) == part.accepted
        for node, parent in zip(draft.path, (-1, *draft.path), strict=False):
            assert draft.parents[node] == parent
        accepted = [draft.tokens[node] for node in draft.path]
        assert list(part.tokens)[: len(accepted)] == accepted[: len(part.tokens)]
        assert set(draft.sources) == {part.source}
    branches = any(part.draft is not None and len(set(part.draft.parents)) < part.drafted for part in parts)
    assert branches == (isinstance(drafter, TreeDrafter))


@pytest.mark.parametrize("drafter", [None, ModelDrafter(DRAFT), TreeDrafter(DRAFT, 2)], ids=["none", "chain", "tree"])
def test_logprobs_are_the_targets_own(drafter: Drafter | None) -> None:
    """Before temperature and every other setting."""
    sampling = SamplingParams(temperature=0.7, top_k=3, repetition_penalty=1.5, seed=3)
    generation = generate(drafter, lookahead=6, rule="token", sampling=sampling, logprobs=True)
    expected = []
    for place, token in enumerate(generation.tokens):
        logits = TARGET.logits_after([*PROMPT, *generation.tokens[:place]])
        expected.append(np.log(reference_distribution(logits, SamplingParams(), (), ())[token]))
    assert generation.logprobs == pytest.approx(expected, abs=1e-5)


def test_no_logprobs_unless_asked_for() -> None:
    assert generate(None).logprobs is None


def test_the_seed_that_was_drawn_reproduces_the_text() -> None:
    first = generate(ModelDrafter(DRAFT), sampling=None, rule="token")
    again = generate(ModelDrafter(DRAFT), sampling=SamplingParams(seed=first.seed), rule="token")
    assert again.tokens == first.tokens


# Batches


@pytest.mark.parametrize("drafter", [None, ModelDrafter(DRAFT), TreeDrafter(DRAFT, 2)], ids=["none", "chain", "tree"])
@pytest.mark.parametrize("lookahead", [Fixed(3), Adaptive()], ids=["fixed", "adaptive"])
def test_every_row_of_a_batch_has_the_tokens_that_it_has_alone(drafter, lookahead) -> None:
    generator = np.random.default_rng(4)
    requests = [
        Request(
            prompt=tuple(int(token) for token in generator.integers(0, 5, generator.integers(1, 9))),
            max_tokens=int(generator.integers(1, 16)),
            sampling=SamplingParams(temperature=float(generator.choice([0.5, 1])), seed=seed),
            stop_token_ids=frozenset({4} if seed % 3 == 0 else ()),
        )
        for seed in range(25)
    ]
    engine = Engine(TARGET, drafter, lookahead=lookahead, rule="coupled", max_rows=4, capacity=32)
    waiting, sequences = list(requests), []
    while waiting or not all(sequence.finish_reason for sequence in sequences):
        if waiting and len(engine.active) + len(engine.waiting) < 4:
            sequences.append(engine.submit(waiting.pop(0)))
        engine.step()
    for request, sequence in zip(requests, sequences, strict=True):
        alone = generate(
            None,
            prompt=request.prompt,
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            stop_token_ids=request.stop_token_ids,
        )
        assert sequence.tokens == alone.tokens
        assert sequence.finish_reason is alone.finish_reason


def test_a_full_engine_takes_no_more() -> None:
    engine = Engine(TARGET, None, lookahead=Fixed(0), max_rows=1, max_waiting=0, capacity=32)
    engine.submit(Request(PROMPT, 5, SEEDED))
    with pytest.raises(QueueFullError, match="0 texts are decoded and 1 wait"):
        engine.submit(Request(PROMPT, 5, SEEDED))


def test_a_step_with_nothing_to_do_does_nothing() -> None:
    assert Engine(TARGET, None, lookahead=Fixed(0), capacity=32).step() == []


# Models that fail


def broken_after(length: int, bad: float) -> FunctionModel:
    """A model that gives a bad number once a text is long enough."""

    def function(tokens):
        logits = np.stack([TARGET.logits_after(tokens[0, : end + 1].tolist()) for end in range(tokens.shape[1])])
        logits[length:] = bad
        return logits

    return FunctionModel(function, vocab_size=5)


@pytest.mark.parametrize("sampling", [SEEDED, GREEDY], ids=["sampled", "greedy"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_no_number_ends_the_text_but_not_the_decoder(bad: float, sampling) -> None:
    decoder = SpeculativeDecoder(ModelDrafter(DRAFT), broken_after(8, bad), 3, rule="coupled")
    with pytest.raises(ModelError, match="it must be finite"):
        decoder.generate(PROMPT, max_tokens=20, sampling=sampling)
    short = decoder.generate(PROMPT, max_tokens=4, sampling=sampling)
    assert short.tokens == generate(None, max_tokens=4, sampling=sampling).tokens


def test_a_bad_logit_ends_its_own_row_only() -> None:
    engine = Engine(broken_after(8, np.nan), None, lookahead=Fixed(0), rule="coupled", max_rows=2, capacity=64)
    doomed = engine.submit(Request((0,) * 7, 20, SEEDED))
    other = engine.submit(Request(PROMPT, 4, SEEDED))
    for _ in range(4):
        engine.step()
    assert doomed.finish_reason is FinishReason.ERROR
    assert isinstance(doomed.error, ModelError)
    assert other.tokens == generate(None, max_tokens=4).tokens


def test_a_draft_model_with_a_bad_logit_is_dropped() -> None:
    with pytest.warns(RuntimeWarning, match="a logit of nan"):
        generation = generate(ModelDrafter(broken_after(6, np.nan)))
    assert generation.tokens == generate(None).tokens
