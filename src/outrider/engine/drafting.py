"""The drafter behind a guard: a drafter that fails is dropped, and decoding goes on plainly."""

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
    """Calls a drafter, and drops it at its first error.

    Speculation is an optimisation: without a drafter the output has the same distribution, and takes longer.

    Attributes:
        drafter: None where there is none, or where it was dropped.
        wants: what it reads of the target's passes.
    """

    def __init__(self, drafter: Drafter | None, vocab_size: int) -> None:
        self.drafter = drafter
        self._vocab_size = vocab_size

    @property
    def present(self) -> bool:
        return self.drafter is not None

    @property
    def wants(self) -> Features:
        return NOTHING if self.drafter is None else self.drafter.wants

    @property
    def may_draft_beside(self) -> int:
        """How many prompt tokens a row may read in a round in which it drafts."""
        # A drafter that reads hidden states or top tokens has none before the target has read the prompt.
        return READING_BESIDE_A_DRAFT if self.wants == NOTHING else 0

    def prepare(self, rows: int, capacity: int) -> None:
        self._call(lambda drafter: drafter.prepare(rows, capacity, self._vocab_size))

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

    def _call(self, call: Callable[[Drafter], T]) -> T | None:
        if self.drafter is None:
            return None
        try:
            return call(self.drafter)
        except Exception as error:
            message = f"drafter {self.drafter.name} failed and is dropped; decoding goes on plainly: {error!r}"
            self.drafter = None
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
        if len(draft) > budget.nodes:
            raise InputError(f"a draft has {len(draft)} tokens and the lookahead is {budget.nodes}: draft no more")
        deepest = max(draft.depths, default=0)
        if deepest > budget.depth:
            raise InputError(f"a draft is {deepest} tokens deep and {budget.depth} are of use: draft no deeper")
        worst = next((token for token in draft.tokens if not 0 <= token < vocab_size), None)
        if worst is not None:
            raise InputError(f"draft token {worst} is outside the target's vocabulary of {vocab_size}")
