"""The model drafter: a smaller model of the same vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.cache import CachedDrafter, DraftCache
from outrider.drafters.chains import ChainGrower, draft_of
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft
from outrider.runtimes.loading import as_model


class ModelDrafter(CachedDrafter):
    """Drafts with another model, by the same sampling settings as the target's.

    It catches up by itself (see DraftCache), whether rounds were skipped or a draft was accepted in full.

    Args:
        model: the draft model, in any form that `as_model` takes: a Model, a name or path, a model of transformers ...
        greedy: always draft the most probable token, with a one-hot q, even where the target samples.
        min_survival: drafting stops after a token with which the product of the probabilities that the draft model
            gives its own tokens falls below this; 0 drafts as far as the lookahead goes. The token stays in the draft:
            to look at it and leave it out would change the distribution of the output (see `block` in maths/rules.py
            for why stopping after it does not).
        name: what its tokens are attributed to.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(self, model: Any, *, greedy: bool = False, min_survival: float = 0.0, name: str = "model") -> None:
        super().__init__(DraftCache(as_model(model)), name)
        self._chains = ChainGrower(self.cache, greedy=greedy, min_survival=min_survival)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [draft_of(chain, self.name) for chain in self._chains.grow(sequences, budgets)]
