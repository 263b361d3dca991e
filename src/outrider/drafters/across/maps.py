"""Which tokens a draft model with another tokenizer reads, and what its logits mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

from outrider.drafters.across.transcript import Transcript
from outrider.drafters.across.translation import Translation
from outrider.drafters.base import DraftedSequence
from outrider.errors import VocabularyError
from outrider.maths.arrays import Array, columns
from outrider.runtimes.base import Model

# Room in the draft model's cache for each token of the target: its tokens may be shorter. A text that outgrows its row
# is no longer drafted for.
DRAFT_TOKENS_PER_TOKEN = 2


class OwnWords:
    """The draft model reads the target's text in tokens of its own, and drafts in these.

    The end of a text may be encoded otherwise once more of it is known ("un", then "undo"): a cache compares what it
    holds with each text.

    Args:
        target: of it only the vocabulary is used.

    Raises:
        VocabularyError: a model has no tokenizer.
    """

    room = DRAFT_TOKENS_PER_TOKEN

    def __init__(self, model: Model, target: Model) -> None:
        self.translation = Translation(model, target)
        self.shared_ids = model.traits.vocab_size
        self.target_size = target.traits.vocab_size
        self._target_name = target.name
        self._transcripts: dict[int, Transcript] = {}

    def open(self, vocab_size: int) -> None:
        if vocab_size != self.target_size:
            raise VocabularyError(
                f"the drafter translates for {self._target_name}, whose vocabulary has {self.target_size} tokens, and "
                f"this target's has {vocab_size}: make a drafter for this target"
            )
        self._transcripts = {}

    def text(self, sequence: DraftedSequence) -> Sequence[int]:
        if sequence.id not in self._transcripts:
            self._transcripts[sequence.id] = Transcript(self.translation)
        return self._transcripts[sequence.id].follow(sequence.tokens)

    def logits(self, logits: Array) -> Array:
        return logits

    def fed_as(self, token: int) -> int:
        return token

    def forget(self, sequence: DraftedSequence) -> None:
        self._transcripts.pop(sequence.id, None)


class Intersection(OwnWords):
    """The draft model reads its own tokens, and drafts in the target's: those that it has as well."""

    def __init__(self, model: Model, target: Model) -> None:
        super().__init__(model, target)
        self.shared_ids = 0
        self._own_ids = self.translation.draft_tokens.tolist()

    def logits(self, logits: Array) -> Array:
        return columns(logits, self.translation.draft_tokens, -math.inf)

    def fed_as(self, token: int) -> int:
        return self._own_ids[token]
