"""The drafter behind a guard: where it fails, decoding goes on plainly until the engine is idle."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

from outrider.drafters.base import READING_BESIDE_A_DRAFT, DraftedSequence, Drafter, Reading
from outrider.errors import InputError
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft, Verdict
from outrider.runtimes.base import NOTHING, Features

T = TypeVar("T")
logger = logging.getLogger("outrider")


class GuardedDrafter:
    """Calls a drafter, and drops it when a call fails.

    Speculation is an optimisation: without a drafter the output has the same distribution, and takes longer. A drafter
    that failed is tried again when the engine is idle, and, if it goes on failing, after twice as many idle moments
    each time. One whose `prepare` fails is not tried again.

    Attributes:
        drafter: None where there is none, and while it is dropped.
        failures: how often it failed.
        wants: what it reads of the target's passes.
    """

    def __init__(self, drafter: Drafter | None, vocab_size: int) -> None:
        self.drafter = drafter
        self.failures = 0
        self._vocab_size = vocab_size
        self._failed: Drafter | None = None
        self._room: tuple[int, int] | None = None  # rows and capacity for which it was prepared
        self._idle_moments = 0  # since it failed

    @property
    def present(self) -> bool:
        return self.drafter is not None

    @property
    def wants(self) -> Features:
        return NOTHING if self.drafter is None else self.drafter.wants.within(self._vocab_size)

    @property
    def may_draft_beside(self) -> int:
        """How many prompt tokens a row may read in a round in which it drafts."""
        # A drafter that reads hidden states has none before the target has read the prompt.
        return 0 if self.wants.hidden else READING_BESIDE_A_DRAFT

    def prepare(self, rows: int, capacity: int) -> None:
        self._call(lambda drafter: drafter.prepare(rows, capacity, self._vocab_size))
        if self.present:
            self._room = rows, capacity

    def try_again(self) -> None:
        """The engine is idle: no text is open that the drafter knows from before it failed."""
        if self._failed is None or self._room is None:
            return
        self._idle_moments += 1
        if self._idle_moments < 2 ** (self.failures - 1):
            return
        self.drafter, self._failed = self._failed, None
        self.prepare(*self._room)

    def adopt(self, sequence: DraftedSequence, length: int) -> int:
        """How many of the first `length` tokens of a new sequence the target need not read for the drafter's sake."""
        adopted = self._call(lambda drafter: drafter.adopt(sequence, length))
        return length if adopted is None else max(min(adopted, length), 0)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft] | None:
        """A draft for each sequence; None if the drafter failed."""

        def propose(drafter: Drafter) -> list[Draft]:
            drafts = drafter.propose(sequences, budgets)
            check_drafts(drafts, budgets, self._vocab_size)
            return drafts

        return self._call(propose)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        self._call(lambda drafter: drafter.read(sequences, readings))

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        self._call(lambda drafter: drafter.observe(sequence, draft, verdict))

    def forget(self, sequence: DraftedSequence) -> None:
        self._call(lambda drafter: drafter.forget(sequence))

    def rest(self) -> bool:
        """As `Drafter.rest`."""
        return bool(self._call(lambda drafter: drafter.rest()))

    def _call(self, call: Callable[[Drafter], T]) -> T | None:
        if self.drafter is None:
            return None
        try:
            return call(self.drafter)
        except Exception as error:
            message = f"drafter {self.drafter.name} failed and is dropped; decoding goes on plainly: {error!r}"
            self.failures += 1
            self._idle_moments = 0
            self.drafter, self._failed = None, self.drafter
            logger.warning(message, exc_info=error)
            warnings.warn(message, RuntimeWarning, stacklevel=4)
            return None


def check_drafts(drafts: Sequence[Draft], budgets: Sequence[Budget], vocab_size: int) -> None:
    """Refuse drafts that break the Drafter protocol.

    Raises:
        InputError: one is missing, too long, too deep, or holds a token outside the vocabulary.
    """
    if len(drafts) != len(budgets):
        raise InputError(f"{len(drafts)} drafts for {len(budgets)} sequences: give one each")
    for draft, budget in zip(drafts, budgets, strict=True):
        tokens = draft.tokens
        if not tokens:
            continue
        if len(tokens) > budget.nodes:
            raise InputError(f"a draft has {len(tokens)} tokens and the lookahead is {budget.nodes}: draft no more")
        if draft.deepest > budget.depth:
            raise InputError(f"a draft is {draft.deepest} tokens deep and {budget.depth} are of use: draft no deeper")
        if min(tokens) < 0 or max(tokens) >= vocab_size:
            worst = next(token for token in tokens if not 0 <= token < vocab_size)
            raise InputError(f"draft token {worst} is outside the target's vocabulary of {vocab_size}")
