"""Whatever happens to an engine, and in whatever order, its caches hold what its sequences say.

Hypothesis submits, steps, cancels, and makes things fail: the drafter, a pass, a logit, or the whole round at any line
of code. After each of these every cache is compared with a fresh one, and at the end every text with what it is alone.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import outrider
from exactness.drafters import lookups, memory_of, similar
from exactness.mutations import draft_cache_not_caught_up
from exactness.policies import Sometimes
from outrider import (
    Draft,
    Drafter,
    Engine,
    FinishReason,
    Handle,
    ModelDrafter,
    QueueFullError,
    RecyclingMemory,
    Request,
    SamplingParams,
    SpeculativeDecoder,
    TableModel,
)
from outrider.engine import feeds as feeds_module
from outrider.engine import prefixes as engine_prefixes
from outrider.engine import scheduler as scheduler_module
from outrider.engine.sequence import ActiveSequence
from outrider.maths.arrays import to_numpy
from outrider.maths.budget import Budget
from outrider.runtimes import prefixes as prefixes_module
from outrider.runtimes.base import Model, Pass, Scored
from outrider.runtimes.ledger import Ledger
from outrider.runtimes.prefixes import Owned, Prefixes, common_length
from outrider.runtimes.stateless import StatelessSession
from tiny import model as tiny_model

ROWS = 3
CAPACITY = 40
INTERRUPTED = tuple(
    str(Path(outrider.__file__).parent / name)
    for name in (
        "engine",
        "runtimes/base.py",
        "runtimes/ledger.py",
        "runtimes/prefixes.py",
        "runtimes/torch/session.py",
        "drafters/cache.py",
        "drafters/chains.py",
        "drafters/lookup",
        "drafters/recycling",
        "lookahead",
    )
)
LINES_OF_A_ROUND = 800


# What may go wrong


class Trouble(Exception):
    """Raised on purpose."""


class TroubledSession:
    """A session whose next pass can be made to fail."""

    def __init__(self, session) -> None:
        self._session = session
        self.before_pass: Callable[[], None] | None = None
        self.after_pass: Callable[[object], object] | None = None
        self.keeps_to_interrupt = 0  # the interrupt comes after so many

    def __getattr__(self, name: str):
        return getattr(self._session, name)

    def extend(self, work: Pass) -> Scored:
        before, self.before_pass = self.before_pass, None
        if before is not None:
            before()
        scored = self._session.extend(work)
        after, self.after_pass = self.after_pass, None
        return scored if after is None else replace(scored, logits=after(scored.logits))

    def keep(self, row, path):
        self._session.keep(row, path)
        if self.keeps_to_interrupt:
            self.keeps_to_interrupt -= 1
            if not self.keeps_to_interrupt:
                raise KeyboardInterrupt


class TroubledModel:
    def __init__(self, model: Model) -> None:
        self._model = model

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def open(self, rows: int, capacity: int) -> TroubledSession:
        self.opened = TroubledSession(self._model.open(rows, capacity))
        return self.opened


class TroubledDrafter(ModelDrafter):
    """A model drafter of which any call can be made to fail."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.failing: str | None = None
        self.nonsense: Callable[[int, int], Draft] | None = None

    def _maybe_fail(self, call: str) -> None:
        if self.failing == call:
            self.failing = None
            raise Trouble(call)

    def read(self, sequences, readings):
        self._maybe_fail("read")
        super().read(sequences, readings)
        self._maybe_fail("read, late")

    def propose(self, sequences, budgets):
        self._maybe_fail("propose")
        drafts = super().propose(sequences, budgets)
        self._maybe_fail("propose, late")
        if self.nonsense is not None:
            drafts[-1] = self.nonsense(budgets[-1].longest, self.cache.vocabulary.shared_ids)
            self.nonsense = None
        return drafts

    def observe(self, sequence, draft, verdict):
        self._maybe_fail("observe")

    def forget(self, sequence):
        self._maybe_fail("forget")
        super().forget(sequence)


class Bushes(Drafter):
    """Draws trees of any shape, deterministically; they are hardly ever right, and much is rolled back."""

    name = "bushes"
    trees = True

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._vocab_size = vocab_size

    def propose(self, sequences, budgets):
        return [self._bush(len(sequence.tokens), budget) for sequence, budget in zip(sequences, budgets, strict=True)]

    def _bush(self, place: int, budget: Budget) -> Draft:
        generator = np.random.default_rng(place)
        tokens: list[int] = []
        parents: list[int] = []
        depths = {-1: 0}
        taken: dict[int, set[int]] = {}
        for node in range(budget.nodes if budget.depth else 0):
            parent = int(generator.choice([above for above in range(-1, node) if depths[above] < budget.depth]))
            free = sorted(set(range(self._vocab_size)) - taken.setdefault(parent, set()))
            tokens.append(int(generator.choice(free)))
            parents.append(parent)
            taken[parent].add(tokens[-1])
            depths[node] = depths[parent] + 1
        return Draft(tuple(tokens), tuple(parents), source=self.name)


@contextmanager
def interrupted_at_line(number: int) -> Iterator[None]:
    """KeyboardInterrupt when that many lines of the engine, its sessions and its drafter were run."""
    left = number

    def trace(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(INTERRUPTED):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


# The machine

requests = st.builds(
    lambda length, first, max_tokens, temperature, seed, stop, isolation: Request(
        tuple((first + 7 * place * place) % 5 for place in range(length)),
        max_tokens,
        SamplingParams(temperature=temperature, seed=seed),
        frozenset({stop} if stop is not None else ()),
        isolation=isolation,
    ),
    length=st.integers(1, 20),
    first=st.integers(0, 4),
    max_tokens=st.integers(1, 14),
    temperature=st.sampled_from([0.0, 0.8, 1.0]),
    seed=st.integers(0, 50),
    stop=st.sampled_from([None, None, 3]),
    isolation=st.sampled_from(["", "", "another"]),
)


class EngineMachine(RuleBasedStateMachine):
    """An engine under the coupled rule, whose texts depend on nothing but prompt, seed and target.

    Attributes:
        target, draft: of the subclasses.
    """

    target: Model
    draft: Model

    @initialize(drafting=st.sampled_from(["model", "model", "model", "bushes"]), lookahead=st.sampled_from([3, None]))
    def open(self, drafting: str, lookahead: int | None) -> None:
        self.drafter = self.drafter_of(drafting)
        target = TroubledModel(self.target)
        self.engine = Engine(
            target,
            self.drafter,
            lookahead=Sometimes() if lookahead is None else lookahead,
            rule="coupled",
            max_rows=ROWS,
            capacity=CAPACITY,
            max_waiting=2,
        )
        self.session = target.opened
        self.submitted: list[tuple[Handle, Request]] = []
        self.interrupts = 0
        # Prompts are read in pieces of a few tokens, beside rows that decode.
        self.patches = [
            patch.object(feeds_module, "READING_BESIDE_OTHERS", 4),
            patch.object(feeds_module, "READING_ALONE", 6),
            patch.object(scheduler_module, "SMALLEST_SHARE", 2),
            patch.object(engine_prefixes, "READING_ALONE", 6),
            patch.object(engine_prefixes, "FEWEST", 2),
            patch.object(prefixes_module, "FEWEST", 2),
        ]
        for patched in self.patches:
            patched.start()

    def drafter_of(self, drafting: str) -> Drafter:
        return TroubledDrafter(self.draft) if drafting == "model" else Bushes()

    @rule(some=st.lists(requests, min_size=1, max_size=3))
    def submit(self, some: list[Request]) -> None:
        for request in some:
            if self.engine.has_room:
                self.submitted.append((self.engine.submit(request), request))
            else:
                with pytest.raises(QueueFullError):
                    self.engine.submit(request)

    @rule(rounds=st.integers(1, 3))
    def step(self, rounds: int) -> None:
        for _ in range(rounds):
            self.step_or_be_interrupted()

    def step_or_be_interrupted(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a drafter that failed is dropped with a warning
                self.engine.step()
        except KeyboardInterrupt:
            self.interrupts += 1

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def cancel(self, data) -> None:
        handle, _ = data.draw(st.sampled_from(self.submitted))
        ended = handle.finish_reason
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            handle.cancel()
        assert handle.finish_reason is (FinishReason.CANCELLED if ended is None else ended)

    @precondition(lambda self: self.engine.active)
    @rule(
        what=st.sampled_from(["drafter", "nonsense", "pass", "pass, late", "logit", "interrupt"]),
        call=st.sampled_from(["read", "read, late", "propose", "propose, late", "observe", "forget"]),
        place=st.floats(0, 1, exclude_max=True),
    )
    def let_something_fail(self, what: str, call: str, place: float) -> None:
        """In the coming round, or whenever what is to fail is next called."""

        def fail(logits=None):
            raise Trouble("out of memory")

        def spoil(logits):
            if len(logits):
                logits[int(place * len(logits)), 1] = float("nan")
            return logits

        if what == "pass":
            self.session.before_pass = fail
        elif what in ("pass, late", "logit"):
            self.session.after_pass = fail if what == "pass, late" else spoil
        elif what == "interrupt":
            self.session.keeps_to_interrupt = 1 + int(place * ROWS)
        elif self.engine.drafter is not self.drafter or not isinstance(self.drafter, TroubledDrafter):
            return
        elif what == "drafter":
            self.drafter.failing = call
        else:
            self.drafter.nonsense = lambda limit, vocab_size: Draft((vocab_size,) * (limit + 1))

    @rule(line=st.integers(1, LINES_OF_A_ROUND))
    def interrupt(self, line: int) -> None:
        with interrupted_at_line(line):
            self.step_or_be_interrupted()
        self.step_or_be_interrupted()

    @property
    def active(self) -> Sequence[ActiveSequence]:
        """The texts that are decoded, with their rows."""
        return self.engine._scheduler.active

    # What must always hold

    @invariant()
    def nobody_is_lost(self) -> None:
        engine = self.engine
        assert len({sequence.row for sequence in self.active}) == len(engine.active) <= ROWS
        assert not set(engine.active) & set(engine.waiting)
        for handle, _ in self.submitted:
            assert (handle in engine.active) + (handle in engine.waiting) == 1 or handle.finish_reason is not None

    @invariant()
    def the_targets_cache_holds_what_the_sequences_say(self) -> None:
        rows = {sequence.row: sequence for sequence in self.active}
        for row in range(ROWS):
            if row not in rows:
                self.a_free_row_holds_what_is_said(self.session, row, self.target, self.engine._prefixes.kept)
            elif not rows[row].finished:
                sequence = rows[row]
                assert self.session.length(row) < len(sequence.tokens)
                self.compare_with_a_fresh_session(self.session, row, self.target, sequence.tokens)

    @invariant()
    def the_drafters_cache_holds_what_the_sequences_say(self) -> None:
        if not isinstance(self.engine.drafter, TroubledDrafter):
            return
        active = {sequence.id: sequence for sequence in self.active}
        session = self.drafter.cache.session
        ledger = ledger_of(session)
        held_by = {row.number: (id, row) for id, row in self.drafter.cache.rows.items()}
        assert len(held_by) == len(self.drafter.cache.rows)
        assert set(self.drafter.cache.rows) <= set(active)
        for number in range(ROWS):
            if number not in held_by:
                self.a_free_row_holds_what_is_said(session, number, self.draft, self.drafter.cache.prefixes.kept)
                continue
            id, row = held_by[number]
            kept, tokens = list(ledger.kept(number)), active[id].tokens
            assert kept == tokens[: len(kept)]
            tentative = ledger._tentative[number]
            # An interrupt may come between a token and its parent; what is not in both was never fed.
            fed = list(zip(tentative, ledger.parents(number), strict=False))
            assert row.fed == fed[: len(row.fed)]
            if not tentative and len(kept) < len(tokens):
                self.compare_with_a_fresh_session(session, number, self.draft, tokens)

    def a_free_row_holds_what_is_said(self, session, row: int, model: Model, kept: Mapping[int, Owned]) -> None:
        """It is kept for later texts, or empty; after an interrupt it may be neither, and is emptied before its use."""
        if row in kept:
            tokens = list(kept[row].tokens)
            assert session.length(row) == len(tokens) <= CAPACITY
            if len(tokens) < CAPACITY:
                self.compare_with_a_fresh_session(session, row, model, [*tokens, 0])
        else:
            assert ledger_of(session).end(row) == 0 or self.interrupts

    def compare_with_a_fresh_session(self, session, row: int, model: Model, tokens: list[int]) -> None:
        held = session.length(row)
        ledger = ledger_of(session)
        assert list(ledger.kept(row)) == tokens[:held]
        assert ledger.end(row) == held  # nothing is tentative between two rounds
        with without_trouble(session):
            found = to_numpy(session.extend(Pass([row], [tokens[held : held + 1]])).logits)
            session.truncate(row, held)
        expected = to_numpy(model.open(1, CAPACITY).extend(Pass([0], [tokens[: held + 1]], wanted=[1])).logits)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    def teardown(self) -> None:
        if not hasattr(self, "engine"):
            return
        try:
            for _ in range(200):
                if self.engine.idle:
                    break
                self.step(1)
            assert self.engine.idle
            for handle, request in self.submitted:
                self.compare_with_the_text_alone(handle, request)
                self.only_texts_of_the_same_key_were_adopted(handle, request)
        finally:
            for patched in self.patches:
                patched.stop()

    def only_texts_of_the_same_key_were_adopted(self, handle: Handle, request: Request) -> None:
        prompt = list(request.prompt)
        shared = [
            common_length(prompt[:-1], [*other.prompt, *its.tokens])
            for its, other in self.submitted
            if its is not handle and other.isolation == request.isolation
        ]
        assert handle.stats.cached_tokens <= max(shared, default=0)

    def compare_with_the_text_alone(self, handle: Handle, request: Request) -> None:
        alone = SpeculativeDecoder(None, self.target, rule="coupled").generate(
            request.prompt,
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            stop_token_ids=request.stop_token_ids,
        )
        output = handle.tokens
        if handle.finish_reason in (FinishReason.STOP, FinishReason.LENGTH):
            assert (output, handle.finish_reason) == (alone.tokens, alone.finish_reason)
        else:
            assert output == alone.tokens[: len(output)]


def ledger_of(session) -> Ledger:
    return session._ledger


@contextmanager
def without_trouble(session) -> Iterator[None]:
    """What is to go wrong goes wrong in a pass of the engine, not of the test."""
    if not isinstance(session, TroubledSession):
        yield
        return
    kept = session.before_pass, session.after_pass
    session.before_pass = session.after_pass = None
    yield
    session.before_pass, session.after_pass = kept


class TableMachine(EngineMachine):
    target = TableModel.random(5, 2, spread=1.5, seed=1)
    draft = similar(target, seed=2)


class LookupMachine(TableMachine):
    """All texts of a machine share a memory that is full: what one of them learned, right or half, the next one drafts
    from. Each machine has its own, or Hypothesis would see different courses of the same steps."""

    def drafter_of(self, drafting: str) -> Drafter:
        return lookups(memory_of(self.target, RecyclingMemory(30, vocab_size=5)), trees=drafting == "model")


def llama_machine(folder: Path) -> type[EngineMachine]:
    """The same with real keys and values."""
    pytest.importorskip("transformers")
    models = [
        outrider.load(str(tiny_model.save(folder / str(seed), seed=seed, words=tiny_model.WORDS[:6])), dtype="float32")
        for seed in (0, 1)
    ]
    return type("LlamaMachine", (EngineMachine,), {"target": models[0], "draft": models[1]})


def run(machine: type[EngineMachine], examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=25, derandomize=True, phases=[Phase.generate], database=None
        ),
    )


class Happenings(Counter[str]):
    """What happened in all runs of a machine: it would find nothing if nothing ever happened."""

    def of(self, machine: type[EngineMachine]) -> type[EngineMachine]:
        happenings = self

        class Watched(machine):
            def teardown(self) -> None:
                super().teardown()
                for handle, _ in getattr(self, "submitted", []):
                    happenings[str(handle.finish_reason)] += 1
                    happenings["accepted"] += handle.stats.accepted
                    happenings["adopted"] += handle.stats.cached_tokens > 0
                    happenings["rejected"] += handle.stats.drafted - handle.stats.accepted
                if hasattr(self, "engine"):
                    happenings["interrupted"] += self.interrupts
                    happenings["drafter dropped"] += self.engine.drafter is None

        return Watched


def test_caches_that_remember_tokens() -> None:
    happened = Happenings()
    run(happened.of(TableMachine), 300)
    for what in (
        "stop",
        "length",
        "cancelled",
        "error",
        "accepted",
        "rejected",
        "adopted",
        "interrupted",
        "drafter dropped",
    ):
        assert happened[what] >= 10, happened


def test_lookups_that_are_interrupted() -> None:
    happened = Happenings()
    run(happened.of(LookupMachine), 80)
    for what in ("length", "cancelled", "accepted", "rejected", "interrupted"):
        assert happened[what] >= 10, happened
    assert happened["error"] >= 1, happened


def test_caches_of_keys_and_values(tmp_path: Path) -> None:
    run(llama_machine(tmp_path), 25)


# Planted mistakes


@contextmanager
def one_token_too_many_is_kept() -> Iterator[None]:
    keep = Ledger.keep

    def changed(self: Ledger, row: int, path) -> None:
        path = list(path)
        parents = list(self.parents(row))
        keep(self, row, [*path, parents.index(path[-1])] if path and path[-1] in parents else path)

    with patch.object(Ledger, "keep", changed):
        yield


@contextmanager
def the_last_key_is_lost() -> Iterator[None]:
    """The book-keeping is right, and the cache is not."""
    import torch

    from outrider.runtimes.torch.session import TorchSession

    keep = TorchSession.keep

    def changed(self: TorchSession, row: int, path) -> None:
        keep(self, row, path)
        if len(path) > 1:
            with torch.inference_mode():
                self._cache._keys[0][row, :, self.length(row) - 1] = 0

    with patch.object(TorchSession, "keep", changed):
        yield


def tentative_tokens_stay() -> AbstractContextManager:
    return patch("outrider.engine.failures.forget_tentative", lambda feeds, session: None)


def one_token_too_many_is_adopted() -> AbstractContextManager:
    shared = Prefixes.shared

    def changed(text: Owned, other: Owned) -> int:
        length = shared(text, other)
        return length + (0 < length < min(len(text.tokens) - 1, len(other.tokens)))

    return patch.object(Prefixes, "shared", staticmethod(changed))


def the_last_token_is_adopted_too() -> AbstractContextManager:
    """So that nothing is left to feed, whose logits are wanted."""
    return patch.object(Prefixes, "shared", staticmethod(lambda text, other: common_length(text.tokens, other.tokens)))


def what_came_after_the_end_stays() -> AbstractContextManager:
    """A round may commit draft tokens behind a stop, and leave others tentative."""

    def changed(self: Prefixes, row: int, text: Owned) -> None:
        self._kept[row] = Owned(tuple(text.tokens[: self._session.length(row)]), text.isolation)

    return patch.object(Prefixes, "keep", changed)


def the_source_goes_on_in_the_copy() -> AbstractContextManager:
    def changed(self: Ledger, row: int, source: int, length: int) -> None:
        self.truncate(row, 0)
        self._kept[row] = self._kept[source]
        del self._kept[row][length:]

    return patch.object(Ledger, "adopt", changed)


def keys_are_ignored() -> AbstractContextManager:
    def changed(text: Owned, other: Owned) -> int:
        return min(common_length(text.tokens, other.tokens), len(text.tokens) - 1)

    return patch.object(Prefixes, "shared", staticmethod(changed))


@contextmanager
def one_key_too_few_is_copied() -> Iterator[None]:
    from outrider.runtimes.torch.ragged_cache import RaggedCache

    adopt = RaggedCache.adopt
    with patch.object(RaggedCache, "adopt", lambda self, row, source, length: adopt(self, row, source, length - 1)):
        yield


def rows_are_not_emptied() -> AbstractContextManager:
    return patch.object(StatelessSession, "release", lambda self, row: None)


def the_drafter_is_not_told_of_the_end() -> AbstractContextManager:
    return patch.object(ModelDrafter, "forget", lambda self, sequence: None)


@contextmanager
def an_interrupt_leaves_what_the_verdict_kept() -> Iterator[None]:
    """Rolls back to what is permanent in the cache, whatever the text says."""
    truncate = StatelessSession.truncate
    with patch.object(
        StatelessSession, "truncate", lambda self, row, length: truncate(self, row, max(length, self.length(row)))
    ):
        yield


@pytest.mark.parametrize(
    "mistake",
    [
        one_token_too_many_is_kept,
        tentative_tokens_stay,
        one_token_too_many_is_adopted,
        the_last_token_is_adopted_too,
        what_came_after_the_end_stays,
        the_source_goes_on_in_the_copy,
        keys_are_ignored,
        rows_are_not_emptied,
        the_drafter_is_not_told_of_the_end,
        draft_cache_not_caught_up,
        an_interrupt_leaves_what_the_verdict_kept,
    ],
)
def test_a_mistake_is_found(mistake: Callable[[], AbstractContextManager]) -> None:
    with mistake(), pytest.raises((AssertionError, ArithmeticError, outrider.OutriderError)):
        run(TableMachine, 500)


@pytest.mark.parametrize("mistake", [the_last_key_is_lost, one_key_too_few_is_copied])
def test_a_wrong_key_is_found(mistake: Callable[[], AbstractContextManager], tmp_path: Path) -> None:
    machine = llama_machine(tmp_path)
    with mistake(), pytest.raises(AssertionError, match=r"Not equal to tolerance|assert "):
        run(machine, 25)
