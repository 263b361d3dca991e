"""Between two vocabularies: the tokens that they share.

The output is exact whatever happens here: q is the distribution that a draft token was drawn from, whatever text the
draft model was shown. What a tokenizer loses (case, spaces, unknown characters) costs acceptance only.
"""

from __future__ import annotations

import numpy as np

from outrider.drafters.across.encoder import Encoder
from outrider.errors import VocabularyError
from outrider.runtimes.base import Model
from outrider.text import Tokenizer

NONE = -1  # the id of a token that the other vocabulary lacks


class Translation:
    """Which tokens of a draft model and of a target are the same.

    Attributes:
        draft_tokens: for each token of the target the draft model's id, NONE where it has none, [vocab of the target].
            Tokens match by their bytes, special tokens by their names; what usually ends a text matches whatever its
            name. No two tokens of the target have the same id.
        shared: how many tokens both have.
        drops_first_space: whether the first token of the target's text stands for a space that is not in the text.

    Raises:
        VocabularyError: a model has no tokenizer.
    """

    def __init__(self, draft: Model, target: Model) -> None:
        self.draft = Encoder(_tokenizer_of(draft))
        self.target = Encoder(_tokenizer_of(target))
        self.draft_tokens = np.full(target.traits.vocab_size, NONE, dtype=np.int64)
        for special in (False, True):
            ours = self.draft.tokens_by_bytes(draft.traits.vocab_size, special)
            for piece, token in self.target.tokens_by_bytes(target.traits.vocab_size, special).items():
                self.draft_tokens[token] = ours.get(piece, NONE)
        self._pair_the_ends(draft, target)
        self.shared = int(np.count_nonzero(self.draft_tokens != NONE))
        self.drops_first_space = self.target.drops_first_space

    def target_token(self, token: int) -> int:
        """The target's id of a token of the draft model, or NONE."""
        found = np.flatnonzero(self.draft_tokens == token)
        return int(found[0]) if len(found) else NONE

    def _pair_the_ends(self, draft: Model, target: Model) -> None:
        """Match the tokens with which a text usually ends, whatever their names."""
        if draft.traits.stop_token_ids and target.traits.stop_token_ids:
            ours, theirs = (
                self.draft.usual_end(draft.traits.stop_token_ids),
                self.target.usual_end(target.traits.stop_token_ids),
            )
            if self.draft_tokens[theirs] == NONE and ours not in self.draft_tokens:
                self.draft_tokens[theirs] = ours


def _tokenizer_of(model: Model) -> Tokenizer:
    if model.tokenizer is None:
        raise VocabularyError(
            f"model {model.name} has no tokenizer: drafting across tokenizers needs the tokenizers of both models"
        )
    return model.tokenizer
