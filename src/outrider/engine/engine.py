"""The engine: one round at a time, for every sequence at once."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from outrider.drafters.base import Drafter
from outrider.drafters.loading import as_drafter
from outrider.engine.admission import check_request, require_drafts_judged, require_features, require_size, rule_of
from outrider.engine.bookkeeping import Books
from outrider.engine.costs import EngineCosts
from outrider.engine.events import TokenEvent
from outrider.engine.failures import as_text_error
from outrider.engine.handle import Handle
from outrider.engine.meanwhile import Meanwhile
from outrider.engine.memory import plan_capacity, room_for_branches, widest_draft
from outrider.engine.prefixes import PrefixCache
from outrider.engine.record import Observer
from outrider.engine.round import Round
from outrider.engine.scheduler import Scheduler
from outrider.engine.sequence import ActiveSequence
from outrider.engine.speculation import speculations
from outrider.engine.stopwatch import Stopwatch
from outrider.errors import InputError
from outrider.lookahead import AdaptiveSpeculator, LookaheadPolicy, as_policy
from outrider.maths.rules import Rule, RuleName, rule_named
from outrider.prompts.request import PreparedRequest, Request, drawn_seed, prepare_request
from outrider.runtimes.base import Model
from outrider.runtimes.loading import as_model, as_tokenizer
from outrider.values import require_flag, require_function

logger = logging.getLogger("outrider")


class Engine:
    """Decodes many texts speculatively, one round at a time: draft, verify, commit.

    Requests may be submitted and cancelled between rounds. The rows of a round share forward passes; each has its own
    length, settings, lookahead and noise, and what it emits does not depend on the others.

    Args:
        target: the model whose distribution the output has: a Model, a name or path for `outrider.load`, a model of
            transformers or mlx-lm, or a function from token ids to logits.
        drafter: a Drafter, or a draft model in any of these forms; None decodes plainly. A drafter serves one engine at
            a time.
        drafters: others, by the names that requests may give them (`Request.drafter`). A text has one of them from its
            beginning to its end; the texts of a round may have different ones, and share its forward pass.
        lookahead: how many tokens to draft: a number, an AdaptiveSpeculator, a policy, or None for the highest expected
            tokens per second (Goodput). A number holds for `drafters` as well; with any other policy they use Goodput.
        rule: token, block or coupled, where a request says nothing.
        tokenizer: for prompts and output: of transformers, or an outrider Tokenizer; None takes the target's own.
        max_rows: how many texts may be decoded at once.
        capacity: the longest text, prompt and output, in tokens; None is the model's context, or what fits into memory.
        max_waiting: how many requests may wait for a row.
        prefix_caching: whether a new text adopts the KV cache of an earlier one as far as both begin the same way
            (automatic prefix caching). `Request.isolation` limits it to texts of the same key.
        memory_limit: bytes for keys, values and logits; None takes most of the free memory.
        observer: called with a RoundRecord after every round; where a device works on its own, while it works on the
            next one.
        clock: seconds, for statistics and costs.

    Attributes:
        costs: what passes of the target cost.

    Raises:
        SettingError: an unknown rule, one that cannot judge the drafter's trees, a number out of its range, or rows
            that do not fit into memory.
        ModelError: a model cannot be found or used.
        VocabularyError: a draft model has another vocabulary.
    """

    def __init__(
        self,
        target: Any,
        drafter: Any = None,
        *,
        drafters: Mapping[str, Drafter] | None = None,
        lookahead: int | AdaptiveSpeculator | LookaheadPolicy | None = None,
        rule: RuleName | Rule = "token",
        tokenizer: Any = None,
        max_rows: int = 8,
        capacity: int | None = None,
        max_waiting: int = 1024,
        prefix_caching: bool = True,
        memory_limit: int | None = None,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        require_size(max_rows, max_waiting, capacity, memory_limit)
        require_flag("prefix_caching", prefix_caching)
        require_function("clock", clock)
        if observer is not None:
            require_function("observer", observer)
        max_rows = int(max_rows)  # of NumPy it would overflow in products
        self._rule = rule_named(rule)
        self._lookahead = as_policy(lookahead)
        self.target: Model = as_model(target, tokenizer)
        self.tokenizer = self.target.tokenizer if tokenizer is None else as_tokenizer(tokenizer)
        chosen = as_drafter(drafter, self.target, tokenizer)
        if lookahead is None:
            own = [] if chosen is None else [chosen]
            self._lookahead = as_policy(None, widest_draft(self.target, own, max_rows, memory_limit))
        named = {} if drafters is None else drafters
        self._speculations = speculations(chosen, self._lookahead, named, self.target.traits.vocab_size)
        if chosen is not None:
            require_drafts_judged(chosen, self._rule)
        opened = [each for each in (chosen, *named.values()) if each is not None]
        for one in opened:
            require_features(one, self.target)
        most = self._lookahead.most
        self.capacity = plan_capacity(self.target, opened, max_rows, capacity, memory_limit, most)
        self._session = self.target.open(max_rows, self.capacity + room_for_branches(opened, most))
        self._scheduler = Scheduler(max_rows, max_waiting)
        self._ids = count()
        self._clock = clock
        self._meanwhile = Meanwhile(self.target.traits.asynchronous)
        self._books = Books(self._speculations, observer, clock(), self._meanwhile)
        self._unsettled = False  # whether a round is going on, or was interrupted
        for each in self._speculations.all:
            each.drafter.prepare(max_rows, self.capacity)
        self._prefix_caching = prefix_caching
        self._prefixes = PrefixCache(self._session, self._speculations, self.target.traits)
        self._costs = EngineCosts.find(self.target, self._session, self._speculations, self._lookahead, clock)
        self.costs = self._costs.curve
        self.costs.buckets = self.target.traits.buckets
        for each in self._speculations.all:
            each.bind(self.costs)
        learns = self.target.traits.pads_rows or any(
            each.lookahead.costs is self.costs for each in self._speculations.all
        )
        self._round = Round(self.target, self._session, self._speculations, self.costs, learns, clock, self._meanwhile)
        logger.debug("opened %r for texts of up to %d tokens", self, self.capacity)

    def __repr__(self) -> str:
        how = f"{self._lookahead!r}, rule {self._rule}, max_rows {self.max_rows}"
        return f"Engine({self.target!r}, {self.drafter!r}, {how})"

    @property
    def drafter(self) -> Drafter | None:
        """None where there is none, and after it failed, until it is tried again when all texts have ended."""
        return self._speculations.own.drafter.drafter

    @property
    def drafters(self) -> Sequence[str]:
        """The names of the others, which requests may name."""
        return self._speculations.names

    @property
    def drafter_failures(self) -> int:
        """How often a drafter failed."""
        return self._speculations.failures

    @property
    def max_rows(self) -> int:
        return self._scheduler.rows

    @property
    def active(self) -> list[Handle]:
        """The texts that are decoded."""
        return [Handle(sequence, self._cancel) for sequence in self._scheduler.active]

    @property
    def waiting(self) -> list[Handle]:
        """The texts that wait for a row, the next one first."""
        return [Handle(sequence, self._cancel) for sequence in self._scheduler.waiting]

    @property
    def has_room(self) -> bool:
        """Whether another request may be submitted."""
        return self._scheduler.has_room

    @property
    def idle(self) -> bool:
        return not (self._scheduler.active or self._scheduler.waiting)

    def submit(self, request: Request | PreparedRequest) -> Handle:
        """Queue a request; the next `step` takes it on if a row is free.

        Raises:
            InputError: the prompt is empty, holds an unknown token, or is too long; or there is no room for max_tokens.
            SettingError: the drafter that it names is not open, or its rule cannot judge the trees of its drafter; stop
                strings need a tokenizer, or a conversation a chat template, and there is none.
            QueueFullError: too many requests wait already.
        """
        prepared = self._prepared(request)
        limit = check_request(prepared, self.target, self.capacity)
        rule = rule_of(prepared, self._speculations.named(prepared.drafter).given, self._rule)
        sequence = ActiveSequence(
            next(self._ids),
            prepared,
            limit,
            rule,
            drawn_seed() if prepared.sampling.seed is None else prepared.sampling.seed,
            self.tokenizer if prepared.detokenize else None,
            prepared.isolation if self._prefix_caching else None,
        )
        if self.idle:
            self._speculations.try_again()
        self._scheduler.add(sequence)
        return Handle(sequence, self._cancel)

    def step(self, meanwhile: Callable[[], None] | None = None) -> list[TokenEvent]:
        """One round for every active text: draft, verify, commit. Finished texts leave, waiting ones come in.

        Args:
            meanwhile: work of the caller's own, such as handing out the tokens of the last round. It is called once:
                while the device works, or before the round where passes return only when they are done. It must not
                use the engine.
        """
        if meanwhile is not None:
            self._meanwhile.add(meanwhile)
        if self._unsettled:
            self._settle()  # the last round was interrupted, and its settling too
        self._remove_finished()  # texts that ended in a round that was interrupted
        self._scheduler.admit(self._prefixes.place)
        if not self._scheduler.active:
            self._meanwhile.do()
            self._meanwhile.check()
            return []
        self._unsettled = True
        try:
            # In this order rows are neighbours in most caches.
            active = sorted(self._scheduler.active, key=lambda sequence: sequence.row)
            watch = Stopwatch(self._clock)
            failures = self._speculations.failures
            result = self._round.run(active, watch)
            if failed := self._speculations.failures - failures:
                for sequence in active:
                    sequence.statistics.drafter_failures += failed
            self._books.enter(result, watch)
            self._remove_finished()  # after the policy has seen the outcome of the round
            self._meanwhile.check()
        except BaseException:
            self._settle()
            raise
        self._unsettled = False
        if self.idle:
            self._costs.keep_if_learned()
        return result.events

    def rest(self) -> bool:
        """Let drafters that learn take one short step, while nothing is asked.

        Returns:
            whether more is to be done; False while a text is open.
        """
        return self.idle and self._speculations.rest()

    def _settle(self) -> None:
        """Roll back a round that was interrupted, by a key or by an error: only emitted tokens stay.

        If an interrupt stops this too, the next step settles first.
        """
        for sequence in self._scheduler.active:
            try:
                sequence.settle()
            except Exception as error:  # of its tokenizer, or of a grammar
                sequence.fail(as_text_error(self.target, error))
            # The cache may hold more of a verdict than the text: cut it to the text.
            held = min(self._session.length(sequence.row), len(sequence.tokens) - 1)
            self._session.truncate(sequence.row, held)
        self._unsettled = False

    def cancel(self, handle: Handle) -> None:
        """End a text, as `Handle.cancel` does."""
        handle.cancel()

    def _cancel(self, sequence: ActiveSequence) -> None:
        if sequence.finished:
            return
        sequence.cancel()
        if not (self._unsettled and sequence in self._scheduler.active):
            self._remove(sequence)  # while a round is going on, its end removes the sequence

    def _remove_finished(self) -> None:
        for sequence in [sequence for sequence in self._scheduler.active if sequence.finished]:
            self._remove(sequence)

    def _remove(self, sequence: ActiveSequence) -> None:
        if sequence in self._scheduler.active:
            self._prefixes.keep(sequence)
            self._speculations.forget(sequence)
        # Last, so that after an interrupt no row is given away whose text is not known.
        self._scheduler.remove(sequence)
        self._meanwhile.do()  # whoever asks what became of a text may look at all of its rounds
        if not self._scheduler.active:
            self._prefixes.trust()

    def _prepared(self, request: Request | PreparedRequest) -> PreparedRequest:
        if isinstance(request, Request):
            return prepare_request(request, self.target, self.tokenizer)
        if isinstance(request, PreparedRequest):
            return request
        raise InputError(f"a {type(request).__name__} cannot be decoded: give a Request, such as Request(prompt)")
