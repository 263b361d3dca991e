"""The string drafter: a model with another tokenizer drafts text, which the target's tokenizer encodes.

String-level exact match, arXiv 2502.05202.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.across.encoder import whole_characters
from outrider.drafters.across.maps import OwnWords
from outrider.drafters.across.translation import NONE
from outrider.drafters.base import DraftedSequence
from outrider.drafters.cache import CachedDrafter, DraftCache
from outrider.drafters.chains import Chain, ChainGrower
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.maths.sampling import UNCHANGED
from outrider.runtimes.loading import as_model


class StringDrafter(CachedDrafter):
    """Drafts text with a model of any tokenizer, and proposes it in the target's tokens.

    The draft has no q, because the draft model's probabilities are not those of the target's tokens. So the tokens are
    proposed as chosen, not drawn. That is exact: the proposal is a fixed sequence once the text is drafted, and a
    verdict on any fixed sequence, with independent noise, emits the target's distribution. A token x is then accepted
    with probability p(x), so the most probable text is the best proposal, and the model drafts greedily under all
    settings.

    At most `lookahead` tokens are proposed. Half characters, text that the target's tokenizer writes otherwise than it
    was drafted, and everything behind a special token are left out.

    Args:
        model: the draft model, in any form that `as_model` takes.
        target: the target, in any of these forms; its tokens are proposed.
        min_survival: as ModelDrafter's.
        name: what its tokens are attributed to.

    Raises:
        VocabularyError: a model has no tokenizer.
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(self, model: Any, target: Any, *, min_survival: float = 0.0, name: str = "string") -> None:
        model, target = as_model(model), as_model(target)
        words = OwnWords(model, target)
        super().__init__(DraftCache(model, words), name)
        self._translation = words.translation
        self._chains = ChainGrower(
            self.cache,
            greedy=True,
            min_survival=min_survival,
            ends=lambda token: not words.translation.draft.piece(token),
        )

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        # The settings are for the target's tokens.
        chains = self._chains.grow(sequences, budgets, sampling=UNCHANGED)
        return [EMPTY if chain is None else self._proposal(chain) for chain in chains]

    def _proposal(self, chain: Chain) -> Draft:
        """What was drafted, in the target's tokens."""
        model, target = self._translation.draft, self._translation.target
        said = model.said(chain.tokens)
        tokens = target.following(chain.sequence.tokens, whole_characters(said))
        end = NONE if model.piece(chain.tokens[-1]) else self._translation.target_token(chain.tokens[-1])
        if end != NONE and target.said(tokens) == said:
            tokens.append(end)
        return Draft(tuple(tokens[: chain.longest]), source=self.name)
