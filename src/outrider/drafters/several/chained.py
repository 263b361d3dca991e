"""Several drafters, asked one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.several.base import Several, seen
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft, Verdict


class Chained(Several):
    """Drafts of the first drafter whose draft is not empty.

    Args:
        drafters: in their order.
        name: default theirs, joined by a plus.

    Raises:
        SettingError: no drafter, or too many.
    """

    def __init__(self, drafters: Sequence[Any], *, name: str | None = None) -> None:
        super().__init__(drafters, name)
        self.trees = any(drafter.trees for drafter in self.drafters if drafter is not None)
        self._spoke: dict[int, int] = {}  # for each sequence the drafter of the last draft

    @property
    def learns(self) -> bool:
        return any(drafter.learns for drafter in self.drafters if drafter is not None)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        drafts = [EMPTY] * len(sequences)
        silent = [index for index, budget in enumerate(budgets) if budget.longest > 0]
        for number in self.present:
            if not silent:
                break
            for index, draft in zip(silent, self._ask(number, silent, sequences, drafts, budgets), strict=True):
                drafts[index] = draft.knowing(drafts[index].experience)
                self._spoke[sequences[index].id] = number
            silent = [index for index in silent if not len(drafts[index])]
        return drafts

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        if len(draft) and self.drafters[self._spoke[sequence.id]] is not None:
            self.call(self._spoke[sequence.id], lambda drafter: drafter.observe(sequence, draft, verdict))

    def forget(self, sequence: DraftedSequence) -> None:
        super().forget(sequence)
        self._spoke.pop(sequence.id, None)

    def _ask(
        self,
        number: int,
        some: Sequence[int],
        sequences: Sequence[DraftedSequence],
        before: Sequence[Draft],
        budgets: Sequence[Budget],
    ) -> Sequence[Draft]:
        """One drafter's drafts for some of the sequences, for which those before it had nothing to say."""
        # The others' empty drafts may rest on other texts: what this one draws must be independent of them.
        asked = [seen(sequences[index], sequences[index].noise.knowing(before[index].experience)) for index in some]
        allowed = [budgets[index] for index in some]
        drafts = self.call(number, lambda drafter: drafter.propose(asked, allowed))
        return [EMPTY] * len(some) if drafts is None else drafts
