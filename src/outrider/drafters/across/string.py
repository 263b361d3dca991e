"""The string drafter: a model with another tokenizer drafts text, which the target's tokenizer encodes.

String-level exact match, arXiv 2502.05202.
"""

from __future__ import annotations

import math
from typing import Any

from outrider.drafters.across.translating import TranslatingDrafter
from outrider.drafters.across.translation import NONE, whole_characters
from outrider.drafters.model import _Growing
from outrider.maths.arrays import Array
from outrider.maths.draft import Draft
from outrider.maths.sampling import log_probabilities, most_probable


class StringDrafter(TranslatingDrafter):
    """Drafts text with a model of any tokenizer, and proposes it in the target's tokens.

    The tokens are proposed as chosen deterministically: what the draft model's probabilities say of a text, its tokens
    in another vocabulary do not have. That is exact. Once the text is drafted the proposal is a fixed sequence, and the
    target's verdict on any fixed sequence, with noise that had no part in it, emits the target's distribution. A
    token x is then accepted with probability p(x), so that the most probable text is the best to propose, and the model
    drafts greedily whatever the sampling settings are.

    Of `lookahead` drafted tokens at most as many are proposed. What is half a character, what the target's tokenizer
    does not spell as it was drafted, and all behind a special token is left out.

    Args:
        model: the draft model, in any form that `as_model` takes.
        target: the target, likewise, whose tokens are proposed.
        min_survival: as ModelDrafter's.
        name: what its tokens are attributed to.

    Raises:
        VocabularyError: a model has no tokenizer.
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(self, model: Any, target: Any, *, min_survival: float = 0.0, name: str = "string") -> None:
        super().__init__(model, target, greedy=True, min_survival=min_survival, name=name)

    def _logits_of(self, logits: Array) -> Array:
        return logits

    def _choose(self, draft: _Growing, logits: Array) -> int:
        token = int(most_probable(logits)[0])
        if self.min_survival:
            draft.survival *= math.exp(log_probabilities(logits, [0], [token])[0])
        return token

    def _is_complete(self, draft: _Growing) -> bool:
        return not self._translation.draft.piece(draft.tokens[-1]) or super()._is_complete(draft)

    def _finished(self, draft: _Growing) -> Draft:
        model, target = self._translation.draft, self._translation.target
        said = model.said(draft.tokens)
        tokens = target.following(draft.sequence.tokens, whole_characters(said))
        end = NONE if model.piece(draft.tokens[-1]) else self._translation.target_token(draft.tokens[-1])
        if end != NONE and target.said(tokens) == said:
            tokens.append(end)
        return Draft(tuple(tokens[: draft.lookahead]), source=self.name)
