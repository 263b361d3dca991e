"""The intersection drafter: a model with another tokenizer, restricted to the tokens that target and model share.

Token-level intersection, arXiv 2502.05202.
"""

from __future__ import annotations

import math
from typing import Any

from outrider.drafters.across.translating import TranslatingDrafter
from outrider.errors import VocabularyError
from outrider.maths.arrays import Array, columns


class IntersectionDrafter(TranslatingDrafter):
    """Drafts with a model of another tokenizer, the tokens that both vocabularies have.

    The draft model's logits are carried over to the target's token ids, those of tokens that only one of them has are
    dropped, and then all is as with ModelDrafter: the settings are applied by the target's ids, and the result is q,
    the distribution that the draft token is drawn from.

    Args:
        model: the draft model, in any form that `as_model` takes.
        target: the target, likewise, whose vocabulary is drafted in.
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
        super().__init__(model, target, greedy=greedy, min_survival=min_survival, name=name)
        if not self._translation.shared:
            raise VocabularyError(
                f"draft {self.model.name} and target {self._target_name} share no token: "
                "draft strings, with a StringDrafter"
            )

    def _logits_of(self, logits: Array) -> Array:
        return columns(logits, self._translation.draft_tokens, -math.inf)

    def _fed_as(self, token: int) -> int:
        return int(self._translation.draft_tokens[token])
