"""The engine: one round at a time, for every sequence at once."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from itertools import count

from outrider.arrays import Array
from outrider.draft import EMPTY, Draft
from outrider.drafters.base import Drafter
from outrider.engine.judgement import judge, logprobs_of
from outrider.engine.request import Request, TokenEvent
from outrider.engine.sequence import ActiveSequence
from outrider.errors import InputError, OutriderError
from outrider.lookahead import LookaheadPolicy
from outrider.models.base import Model, prefill
from outrider.verification import rule_named


class Engine:
    """Decodes sequences speculatively: draft, verify, commit.

    Args:
        target: the model whose distribution the output has.
        drafter: None decodes plainly.
        lookahead: how many tokens to draft.
        rule: token, block or coupled.
        rows: how many sequences may be active at once.
        capacity: the longest that a sequence may become, prompt and output, in tokens.

    Raises:
        SettingError: an unknown rule.
    """

    def __init__(
        self,
        target: Model,
        drafter: Drafter | None,
        *,
        lookahead: LookaheadPolicy,
        rule: str = "token",
        rows: int = 1,
        capacity: int,
    ) -> None:
        self.target = target
        self.capacity = min(capacity, target.context_length)
        self.rows = rows
        self._rule_name = rule
        self._rule = rule_named(rule)
        self._lookahead = lookahead
        self._session = target.open(rows, self.capacity)
        self._drafter = drafter
        self._active: list[ActiveSequence] = []
        self._ids = count()
        if drafter is not None:
            try:
                drafter.prepare(rows, self.capacity, target.vocab_size)
            except Exception as error:
                self._drop_drafter(error)

    @property
    def has_room(self) -> bool:
        return len(self._active) < self.rows

    def submit(self, request: Request) -> ActiveSequence:
        """Take a request on; its prompt is fed at once.

        Raises:
            InputError: the prompt is empty, holds an unknown token, or leaves no room for a token of output.
        """
        check_prompt(request.prompt, self.target, self.capacity)
        if not self.has_room:
            raise InputError(f"all {self.rows} rows are taken: wait until a sequence ends")
        limit = min(len(request.prompt) + request.max_tokens, self.capacity)
        sequence = ActiveSequence(next(self._ids), request, limit, shared_noise=self._rule_name == "coupled")
        taken = {other.row for other in self._active}
        sequence.row = next(row for row in range(self.rows) if row not in taken)
        self._active.append(sequence)
        try:
            self._prefill(sequence)
        except BaseException:
            self.release(sequence)
            raise
        return sequence

    def step(self) -> list[TokenEvent]:
        """One round: draft, verify, commit. Finished sequences leave."""
        active = list(self._active)
        if not active:
            return []
        started = time.perf_counter()
        drafts = self._draft(active)
        drafted = time.perf_counter()
        logits = self._verify(active, drafts)
        verified = time.perf_counter()
        events = []
        first = 0
        for sequence, draft in zip(active, drafts, strict=True):
            events += self._commit(sequence, draft, logits[first : first + 1 + len(draft)])
            first += 1 + len(draft)
        ended = time.perf_counter()
        for sequence in active:
            statistics = sequence.statistics
            statistics.seconds_drafting += drafted - started
            statistics.seconds_verification += verified - drafted
            statistics.seconds_elsewhere += ended - verified
        return events

    def release(self, sequence: ActiveSequence) -> None:
        """Let a sequence go, finished or not."""
        if sequence not in self._active:
            return
        self._active.remove(sequence)
        self._session.release(sequence.row)
        self._lookahead.forget(sequence.id)
        if self._drafter is not None:
            try:
                self._drafter.forget(sequence)
            except Exception as error:
                self._drop_drafter(error)

    def _prefill(self, sequence: ActiveSequence) -> None:
        """Feed the prompt but for its last token, which is pending."""
        started = time.perf_counter()
        rest = prefill(self._session, sequence.row, sequence.request.prompt[:-1])
        if rest:
            self._session.extend([sequence.row], [rest], wanted=[0])
            self._session.keep(sequence.row, range(len(rest)))
        sequence.statistics.seconds_prefill = time.perf_counter() - started

    def _draft(self, active: Sequence[ActiveSequence]) -> list[Draft]:
        if self._drafter is None:
            return [EMPTY] * len(active)
        planned = self._lookahead.plan([sequence.id for sequence in active])
        # A round emits one token more than it accepts: a draft up to the limit would be cut.
        lookahead = [min(plan, sequence.room - 1) for plan, sequence in zip(planned, active, strict=True)]
        try:
            drafts = self._drafter.propose(active, lookahead)
            check_drafts(drafts, lookahead, self.target.vocab_size)
        except Exception as error:
            self._drop_drafter(error)
            return [EMPTY] * len(active)
        return drafts

    def _drop_drafter(self, error: Exception) -> None:
        """Speculation is an optimisation: without a drafter the output is the same, only later."""
        assert self._drafter is not None
        warnings.warn(
            f"drafter {self._drafter.name} failed and is dropped; decoding goes on plainly: {error!r}",
            RuntimeWarning,
            stacklevel=4,
        )
        self._drafter = None

    def _verify(self, active: Sequence[ActiveSequence], drafts: Sequence[Draft]) -> Array:
        """Logits of every pending token and every draft token, in one forward pass."""
        rows = [sequence.row for sequence in active]
        tokens = [[sequence.pending, *draft.tokens] for sequence, draft in zip(active, drafts, strict=True)]
        # In the session the pending token is node 0, and draft node i is node i + 1.
        parents = [None if draft.parents is None else [-1, *(node + 1 for node in draft.parents)] for draft in drafts]
        return self._session.extend(rows, tokens, parents)

    def _commit(self, sequence: ActiveSequence, draft: Draft, logits: Array) -> list[TokenEvent]:
        try:
            verdict = judge(draft, logits, sequence.sampling, sequence.history, self._rule, sequence.noise)
        except OutriderError as error:
            sequence.fail(error)
            self.release(sequence)
            return []
        self._session.keep(sequence.row, [0, *(node + 1 for node in verdict.path)])
        logprobs = logprobs_of(draft, verdict, logits) if sequence.request.logprobs else None
        events = list(sequence.advance(draft, verdict, logprobs))
        if len(draft):
            self._lookahead.observe(sequence.id, len(draft), verdict.accepted)
        if self._drafter is not None:
            try:
                self._drafter.observe(sequence, draft, verdict)
            except Exception as error:
                self._drop_drafter(error)
        if sequence.finished:
            self.release(sequence)
        return events


def check_prompt(prompt: Sequence[int], model: Model, capacity: int) -> None:
    """Refuse a prompt that cannot be decoded.

    Raises:
        InputError: it is empty, holds a token outside the vocabulary, or leaves no room for a token of output.
    """
    if not prompt:
        raise InputError("the prompt is empty: give at least one token")
    worst = next((token for token in prompt if not 0 <= token < model.vocab_size), None)
    if worst is not None:
        raise InputError(
            f"prompt token {worst} is outside the vocabulary of {model.vocab_size}: "
            f"encode the prompt with the tokenizer of {model.name}"
        )
    if len(prompt) >= capacity:
        raise InputError(
            f"the prompt has {len(prompt)} tokens and the context of {model.name} holds {capacity}: "
            f"shorten it to {capacity - 1} or less"
        )


def check_drafts(drafts: Sequence[Draft], lookahead: Sequence[int], vocab_size: int) -> None:
    """Refuse drafts that break the Drafter protocol.

    Raises:
        InputError: one is missing, too long, or holds a token outside the vocabulary.
    """
    if len(drafts) != len(lookahead):
        raise InputError(f"{len(drafts)} drafts for {len(lookahead)} sequences: give one each")
    for draft, limit in zip(drafts, lookahead, strict=True):
        if len(draft) > max(limit, 0):
            raise InputError(f"a draft has {len(draft)} tokens and the lookahead is {limit}: draft no more")
        worst = next((token for token in draft.tokens if not 0 <= token < vocab_size), None)
        if worst is not None:
            raise InputError(f"draft token {worst} is outside the target's vocabulary of {vocab_size}")
