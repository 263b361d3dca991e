"""The intersection drafter: a model with another tokenizer, restricted to the tokens that target and model share.

Token-level intersection, arXiv 2502.05202.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.across.maps import Intersection
from outrider.drafters.base import DraftedSequence
from outrider.drafters.cache import CachedDrafter, DraftCache
from outrider.drafters.chains import ChainGrower, draft_of
from outrider.errors import VocabularyError
from outrider.maths.budget import Budget
from outrider.maths.draft import Draft
from outrider.runtimes.loading import as_model


class IntersectionDrafter(CachedDrafter):
    """Drafts with a model of another tokenizer, the tokens that both vocabularies have.

    The draft model's logits are carried over to the target's token ids, those of tokens that only one of them has are
    dropped, and then all is as with ModelDrafter: the settings are applied by the target's ids, and the result is q,
    the distribution that the draft token is drawn from.

    Args:
        model: the draft model, in any form that `as_model` takes.
        target: the target, in any of these forms; drafts use its vocabulary.
        greedy: always draft the most probable token, with a one-hot q, even where the target samples.
        min_survival: as ModelDrafter's.
        name: what its tokens are attributed to.

    Raises:
        VocabularyError: a model has no tokenizer, or they share no token.
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(
        self,
        model: Any,
        target: Any,
        *,
        greedy: bool = False,
        min_survival: float = 0.0,
        name: str = "intersection",
    ) -> None:
        model, target = as_model(model), as_model(target)
        shared = Intersection(model, target)
        if not shared.translation.shared:
            raise VocabularyError(
                f"draft {model.name} and target {target.name} share no token: draft strings, with a StringDrafter"
            )
        super().__init__(DraftCache(model, shared), name)
        self._chains = ChainGrower(self.cache, greedy=greedy, min_survival=min_survival)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [draft_of(chain, self.name) for chain in self._chains.grow(sequences, budgets)]
