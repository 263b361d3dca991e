"""The engine: one round at a time, for every sequence at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from outrider.drafters.base import Drafter
from outrider.engine.grouping import group_by_work
from outrider.engine.judgement import judge_rows, logprobs_of
from outrider.engine.memory import NODES_OF_A_TREE, plan_capacity
from outrider.engine.record import RoundRecord, SequenceRound
from outrider.engine.request import TokenEvent
from outrider.engine.scheduler import Scheduler, reading_shares
from outrider.engine.sequence import ActiveSequence
from outrider.engine.warmup import measure_costs
from outrider.errors import InputError, ModelError, SettingError
from outrider.lookahead import (
    AdaptiveSpeculator,
    CostCurve,
    DraftingTraits,
    LookaheadPolicy,
    Outcome,
    Times,
    as_policy,
)
from outrider.maths.arrays import Array, stack
from outrider.maths.budget import NO_BUDGET, Budget
from outrider.maths.draft import EMPTY, Draft, Verdict
from outrider.maths.rules import FOR_TREES, Rule, RuleName, rule_named
from outrider.prompts.request import PreparedRequest, Request, drawn_seed, prepare_request
from outrider.prompts.tokens import check_tokens
from outrider.runtimes.base import Model, Pass
from outrider.text import Tokenizer

READING_ALONE = 512  # prompt tokens per round while nobody waits for the next token
READING_BESIDE_OTHERS = 128
# A row that reads more does not draft in the same round. Attention over many tokens is not cut at every block of keys
# (SHORT in models/ragged_cache.py): the prompt itself would be read with other rounding, by the draft behind it.
READING_BESIDE_A_DRAFT = 64


Observer = Callable[[RoundRecord], None]


@dataclass(slots=True)
class _Feed:
    """What one row adds to a round: the tokens not yet in the cache, and a draft.

    Attributes:
        read: prompt tokens among the fed ones, besides the pending one.
        draft: None while the prompt is not read to its end.
    """

    sequence: ActiveSequence
    tokens: list[int]
    read: int
    budget: Budget = NO_BUDGET
    draft: Draft | None = None

    @property
    def wanted(self) -> int:
        return 0 if self.draft is None else 1 + len(self.draft)

    @property
    def parents(self) -> list[int] | None:
        if self.draft is None or self.draft.parents is None:
            return None
        # The tokens not yet in the cache are a chain, and what the draft calls its root is the last of them.
        first = len(self.tokens) - len(self.draft)
        return [node - 1 for node in range(first)] + [first + parent for parent in self.draft.parents]


@dataclass(slots=True)
class _Scored:
    """What came out of one forward pass: the rows that drafted, and their logits one after the other."""

    feeds: list[_Feed]
    logits: Array


class Engine:
    """Decodes many texts speculatively, one round at a time: draft, verify, commit.

    Requests may be submitted and cancelled between rounds. The rows of a round share forward passes; each has its own
    length, settings, lookahead and noise, and what it emits does not depend on the others.

    Args:
        target: the model whose distribution the output has.
        drafter: None decodes plainly. A drafter serves one engine at a time.
        lookahead: how many tokens to draft: a number, an AdaptiveSpeculator, a policy, or None, which chooses what
            promises most tokens per second (Goodput).
        rule: token, block or coupled.
        tokenizer: for prompts and output; None takes the target's own.
        max_rows: how many texts may be decoded at once.
        capacity: the longest that a text may become, prompt and output, in tokens; None is the model's context, or what
            fits into memory.
        max_waiting: how many requests may wait for a row.
        memory_limit: bytes for keys, values and logits; None takes most of what is free.
        observer: called with a RoundRecord after every round.
        clock: seconds, for statistics and costs.

    Attributes:
        costs: what passes of the target cost.

    Raises:
        SettingError: an unknown rule, one that cannot judge the drafter's trees, a number out of its range, or rows
            that do not fit into memory.
    """

    def __init__(
        self,
        target: Model,
        drafter: Drafter | None = None,
        *,
        lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = None,
        rule: RuleName | Rule = "token",
        tokenizer: Tokenizer | None = None,
        max_rows: int = 8,
        capacity: int | None = None,
        max_waiting: int = 1024,
        memory_limit: int | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        for name, value, least in (("max_rows", max_rows, 1), ("max_waiting", max_waiting, 0)):
            if value < least:
                raise SettingError(f"{name} is {value}: it must be at least {least}")
        if capacity is not None and capacity < 2:
            raise SettingError(f"capacity is {capacity}: it must be at least 2, a token of prompt and one of output")
        self._rule = rule_named(rule)
        self._trees = drafter is not None and drafter.trees
        if drafter is not None and drafter.trees and not self._rule.judges_trees:
            raise SettingError(
                f"rule {self._rule} judges chains, and drafter {drafter.name} proposes trees: use rule {FOR_TREES}"
            )
        self._lookahead = as_policy(lookahead)
        self.target = target
        self.tokenizer = target.tokenizer if tokenizer is None else tokenizer
        self.capacity = plan_capacity(target, drafter, max_rows, capacity, memory_limit)
        self._session = target.open(max_rows, self.capacity + (NODES_OF_A_TREE if self._trees else 0))
        self._scheduler = Scheduler(max_rows, max_waiting)
        self._ids = count()
        self._rounds = count()
        self._clock = clock
        self._opened = clock()
        self._observer = observer
        self._pads = target.traits.pads_rows
        self._unsettled = False  # whether a round may have been left in its midst
        self._drafter = drafter
        if drafter is not None:
            try:
                drafter.prepare(max_rows, self.capacity, target.traits.vocab_size)
            except Exception as error:
                self._drop_drafter(error)
        self.costs = self._find_costs()
        if self._drafter is not None:
            self._lookahead.bind(DraftingTraits(self._drafter.trees, self._drafter.estimates), self.costs)
        self._learns_costs = self._pads or self._lookahead.costs is self.costs

    @property
    def max_rows(self) -> int:
        return self._scheduler.rows

    @property
    def active(self) -> Sequence[ActiveSequence]:
        """The texts that are decoded."""
        return self._scheduler.active

    @property
    def waiting(self) -> Sequence[ActiveSequence]:
        """The texts that wait for a row, the next one first."""
        return self._scheduler.waiting

    @property
    def has_room(self) -> bool:
        """Whether another request may be submitted."""
        return self._scheduler.has_room

    @property
    def idle(self) -> bool:
        return not (self._scheduler.active or self._scheduler.waiting)

    def submit(self, request: Request | PreparedRequest) -> ActiveSequence:
        """Queue a request; the next `step` takes it on if a row is free.

        Raises:
            InputError: the prompt is empty, holds an unknown token, or is too long; or there is no room for max_tokens.
            SettingError: stop strings need a tokenizer, or a conversation a chat template, and there is none.
            QueueFullError: too many requests wait already.
        """
        if isinstance(request, Request):
            request = prepare_request(request, self.target, self.tokenizer)
        elif not isinstance(request, PreparedRequest):
            raise InputError(f"a {type(request).__name__} cannot be decoded: give a Request, such as Request(prompt)")
        check_tokens(request.prompt, self.target, self.capacity)
        limit = len(request.prompt) + request.max_tokens
        if limit > self.capacity and self.capacity < self.target.traits.context_length:
            raise InputError(
                f"the request needs {limit} tokens, {len(request.prompt)} of prompt and {request.max_tokens} of "
                f"output, and a row of this engine holds {self.capacity}: ask for at most "
                f"{self.capacity - len(request.prompt)} tokens, or open the engine with a larger capacity"
            )
        sequence = ActiveSequence(
            next(self._ids),
            request,
            min(limit, self.capacity),
            self._rule.shares_noise,
            drawn_seed() if request.sampling.seed is None else request.sampling.seed,
            self.tokenizer if request.detokenize else None,
        )
        self._scheduler.add(sequence)
        return sequence

    def step(self) -> list[TokenEvent]:
        """One round for every active text: draft, verify, commit. Finished texts leave, waiting ones come in."""
        if self._unsettled:
            self._settle()  # the last round was interrupted, and so was what followed
        for sequence in [sequence for sequence in self._scheduler.active if sequence.finished]:
            self._remove(sequence)  # a round before this one was interrupted
        self._scheduler.admit()
        if not self._scheduler.active:
            return []
        self._unsettled = True
        try:
            # Rows in their order lie side by side in most caches.
            events = self._round(sorted(self._scheduler.active, key=lambda sequence: sequence.row))
        except BaseException:
            self._settle()
            raise
        self._unsettled = False
        return events

    def _settle(self) -> None:
        """After a round that was interrupted, by a key or by a mistake of ours: what was emitted stays, nothing else.

        An interrupt may come here too; then the next step begins with it.
        """
        for sequence in self._scheduler.active:
            sequence.settle()
            # A verdict may be in the cache already, and its tokens not yet, or not all of them, in the text.
            held = min(self._session.length(sequence.row), len(sequence.tokens) - 1)
            self._session.truncate(sequence.row, held)
        self._unsettled = False

    def cancel(self, sequence: ActiveSequence) -> None:
        """Let a text go. One that has ended already stays as it is."""
        if not sequence.finished:
            sequence.cancel()
            self._remove(sequence)

    def _round(self, active: list[ActiveSequence]) -> list[TokenEvent]:
        started = self._clock()
        feeds = self._plan_feeds(active)
        self._draft(feeds)
        drafted = self._clock()
        passes = self._verify(feeds)
        verified = self._clock()
        events: list[TokenEvent] = []
        outcomes: list[Outcome] = []
        parts: list[SequenceRound] = []
        for scored in passes:
            for feed, draft, verdict, logits in self._judge(scored):
                new = self._commit(feed, draft, verdict, logits)
                events += new
                if self._drafter is not None:
                    outcomes.append(_outcome_of(feed, draft, verdict))
                if self._observer is not None:
                    parts.append(_part_of(feed, draft, verdict, new))
        ended = self._clock()
        seconds = (drafted - started, verified - drafted, ended - verified)
        if outcomes:
            steady = len(outcomes) == len(feeds) and all(feed.read == 0 for feed in feeds)
            self._lookahead.observe(outcomes, Times(*seconds) if steady else None)
        for feed in feeds:
            feed.sequence.statistics.count_time(*seconds, read=feed.read, fed=len(feed.tokens))
            # Only now, when the policy knows what became of the round.
            if feed.sequence.finished:
                self._remove(feed.sequence)
        number = next(self._rounds)
        if self._observer is not None:
            parts += [_part_of_reader(feed) for feed in feeds if feed.draft is None]
            self._observer(RoundRecord(number, started - self._opened, len(passes), *seconds, tuple(parts)))
        return events

    def _plan_feeds(self, active: Sequence[ActiveSequence]) -> list[_Feed]:
        """What each row feeds: its pending token, or a piece of its prompt."""
        feeds = []
        readers = []
        for sequence in active:
            unread = len(sequence.tokens) - self._session.length(sequence.row) - 1
            feed = _Feed(sequence, [], unread)
            feeds.append(feed)
            if unread:
                readers.append(feed)
        budget = READING_ALONE if len(readers) == len(feeds) else READING_BESIDE_OTHERS
        for feed, share in zip(readers, reading_shares([feed.read + 1 for feed in readers], budget), strict=True):
            held = self._session.length(feed.sequence.row)
            feed.tokens = feed.sequence.tokens[held : held + share]
            feed.draft = EMPTY if share == feed.read + 1 else None
            feed.read = min(feed.read, share)
        for feed in feeds:
            if not feed.read:
                feed.tokens = [feed.sequence.pending]
                feed.draft = EMPTY
        self.costs.depth = sum(self._session.length(feed.sequence.row) for feed in feeds) / len(feeds)
        return feeds

    def _draft(self, feeds: Sequence[_Feed]) -> None:
        if self._drafter is None:
            return
        drafting = [feed for feed in feeds if feed.draft is not None and feed.read <= READING_BESIDE_A_DRAFT]
        reading = [feed for feed in feeds if feed.draft is None or feed.read > READING_BESIDE_A_DRAFT]
        try:
            if reading:
                self._drafter.read([feed.sequence for feed in reading], [feed.read for feed in reading])
            if not drafting:
                return
            sequences = [feed.sequence for feed in drafting]
            planned = self._lookahead.budgets([sequence.id for sequence in sequences])
            budgets = [self._within_row(budget, s) for budget, s in zip(planned, sequences, strict=True)]
            drafts = self._drafter.propose_trees(sequences, budgets)
            check_drafts(drafts, budgets, self.target.traits.vocab_size)
        except Exception as error:
            self._drop_drafter(error)
            return
        for feed, budget, draft in zip(drafting, budgets, drafts, strict=True):
            feed.budget = budget
            feed.draft = draft
            feed.tokens.extend(draft.tokens)

    def _within_row(self, planned: Budget, sequence: ActiveSequence) -> Budget:
        """As much of a budget as the rest of the row has a use and a place for."""
        # A round emits one token more than it accepts: a draft up to the limit would be cut.
        depth = max(min(planned.nodes, planned.depth, sequence.room - 1), 0)
        if not depth or not self._trees:
            return Budget(depth, depth, planned.prices)
        return Budget(min(planned.nodes, self._session.capacity - len(sequence.tokens)), depth, planned.prices)

    def _verify(self, feeds: Sequence[_Feed]) -> list[_Scored]:
        """Run the target over what every row feeds, in as few passes as is cheapest."""
        groups = [list(range(len(feeds)))]
        if self._pads:
            groups = group_by_work([len(feed.tokens) for feed in feeds], self.costs)
        passes: list[_Scored] = []
        for group in groups:
            members = [feeds[place] for place in group]
            try:
                passes.append(self._pass(members))
            except Exception as error:
                passes += self._pass_one_by_one(members, error)
        return passes

    def _pass(self, feeds: Sequence[_Feed]) -> _Scored:
        """One forward pass."""
        started = self._clock()
        work = Pass(
            [feed.sequence.row for feed in feeds],
            [feed.tokens for feed in feeds],
            [feed.parents for feed in feeds],
            [feed.wanted for feed in feeds],
        )
        scored = self._session.extend(work)
        scored.wait()  # an asynchronous runtime: the pass is to be timed, and to fail, here
        seconds = self._clock() - started
        for feed in feeds:
            if feed.draft is None:
                self._session.keep(feed.sequence.row, range(len(feed.tokens)))
        if self._learns_costs and all(feed.read == 0 for feed in feeds):
            counts = [len(feed.tokens) for feed in feeds]
            self.costs.observe(len(counts), len(counts) * max(counts) if self._pads else sum(counts), seconds)
        return _Scored([feed for feed in feeds if feed.draft is not None], scored.logits)

    def _judge(self, scored: _Scored) -> Iterator[tuple[_Feed, Draft, Verdict, Array]]:
        """The verdict on each draft, and its logits; a row whose logits are no numbers fails alone."""
        drafts = [feed.draft or EMPTY for feed in scored.feeds]
        verdicts = judge_rows(drafts, scored.logits, [feed.sequence for feed in scored.feeds], self._rule)
        first = 0
        for feed, draft, verdict in zip(scored.feeds, drafts, verdicts, strict=True):
            logits = scored.logits[first : first + feed.wanted]
            first += feed.wanted
            if isinstance(verdict, Verdict):
                yield feed, draft, verdict, logits
            else:
                self._fail(feed.sequence, verdict)

    def _pass_one_by_one(self, feeds: Sequence[_Feed], error: Exception) -> list[_Scored]:
        """After a pass that failed, out of memory perhaps: each row alone, so that only those fail that must."""
        for feed in feeds:
            self._forget_tentative(feed.sequence)
        if len(feeds) == 1:
            self._fail(feeds[0].sequence, error)
            return []
        passes: list[_Scored] = []
        for feed in feeds:
            try:
                alone = self._pass([feed])
                if len(alone.logits):  # the next pass may overwrite them
                    alone.logits = stack(list(alone.logits))
                passes.append(alone)
            except Exception as own:
                self._fail(feed.sequence, own)
        return passes

    def _commit(self, feed: _Feed, draft: Draft, verdict: Verdict, logits: Array) -> list[TokenEvent]:
        sequence = feed.sequence
        first = len(feed.tokens) - len(draft)
        self._session.keep(sequence.row, [*range(first), *(first + node for node in verdict.path)])
        logprobs = logprobs_of(draft, verdict, logits) if sequence.request.logprobs else None
        events = list(sequence.advance(draft, verdict, logprobs))
        if self._drafter is not None:
            try:
                self._drafter.observe(sequence, draft, verdict)
            except Exception as error:
                self._drop_drafter(error)
        return events

    def _fail(self, sequence: ActiveSequence, error: Exception) -> None:
        """End one text; the others go on."""
        sequence.fail(error if isinstance(error, ModelError | InputError) else _as_model_error(self.target, error))
        self._remove(sequence)

    def _remove(self, sequence: ActiveSequence) -> None:
        if sequence in self._scheduler.active:
            self._session.release(sequence.row)
            self._lookahead.forget(sequence.id)
            if self._drafter is not None:
                try:
                    self._drafter.forget(sequence)
                except Exception as error:
                    self._drop_drafter(error)
        # Last, so that an interrupt cannot hand out a row that was not emptied.
        self._scheduler.remove(sequence)

    def _forget_tentative(self, sequence: ActiveSequence) -> None:
        self._session.truncate(sequence.row, self._session.length(sequence.row))

    def _drop_drafter(self, error: Exception) -> None:
        """Speculation is an optimisation: without a drafter the output is the same, only later."""
        assert self._drafter is not None
        warnings.warn(
            f"drafter {self._drafter.name} failed and is dropped; decoding goes on plainly: {error!r}",
            RuntimeWarning,
            stacklevel=4,
        )
        self._drafter = None

    def _find_costs(self) -> CostCurve:
        """The policy's cost curve, measured now where it wants one and has none."""
        costs = self._lookahead.costs
        if costs is None:
            wanted = self._lookahead.wants_costs and self._drafter is not None
            costs = (
                measure_costs(self._session, self.target.traits.vocab_size, self._clock)
                if wanted or (self._pads and self.max_rows > 1)
                else CostCurve()
            )
        return costs


def check_drafts(drafts: Sequence[Draft], budgets: Sequence[Budget], vocab_size: int) -> None:
    """Refuse drafts that break the Drafter protocol.

    Raises:
        InputError: one is missing, too long, too deep, or holds a token outside the vocabulary.
    """
    if len(drafts) != len(budgets):
        raise InputError(f"{len(drafts)} drafts for {len(budgets)} sequences: give one each")
    for draft, budget in zip(drafts, budgets, strict=True):
        if len(draft) > budget.nodes:
            raise InputError(f"a draft has {len(draft)} tokens and the lookahead is {budget.nodes}: draft no more")
        deepest = max(draft.depths, default=0)
        if deepest > budget.depth:
            raise InputError(f"a draft is {deepest} tokens deep and {budget.depth} are of use: draft no deeper")
        worst = next((token for token in draft.tokens if not 0 <= token < vocab_size), None)
        if worst is not None:
            raise InputError(f"draft token {worst} is outside the target's vocabulary of {vocab_size}")


def _as_model_error(model: Model, error: Exception) -> ModelError:
    first_line = str(error).strip().splitlines()[:1] or [type(error).__name__]
    wrapped = ModelError(f"model {model.name} failed on this text alone: {first_line[0]}")
    wrapped.__cause__ = error
    return wrapped


def _outcome_of(feed: _Feed, draft: Draft, verdict: Verdict) -> Outcome:
    depths = () if draft.is_chain else draft.depths
    return Outcome(
        feed.sequence.id,
        feed.budget.nodes,
        len(draft),
        verdict.accepted,
        depths,
        verdict.path,
        feed.budget.depth,
        sum(draft.chances or ()),
    )


def _part_of(feed: _Feed, draft: Draft, verdict: Verdict, events: Sequence[TokenEvent]) -> SequenceRound:
    return SequenceRound(
        feed.sequence.id,
        feed.read,
        None if feed.budget.prices.totals else feed.budget.nodes,
        len(draft),
        verdict.accepted,
        tuple(event.token for event in events),
        tuple(event.origin for event in events),
        draft.source if len(draft) else "",
        feed.sequence.finish_reason,
        () if draft.is_chain else draft.depths,
    )


def _part_of_reader(feed: _Feed) -> SequenceRound:
    return SequenceRound(feed.sequence.id, feed.read, 0, 0, 0, (), (), "", feed.sequence.finish_reason)
