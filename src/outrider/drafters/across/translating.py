"""What drafters whose model has another tokenizer than the target have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outrider.drafters.across.translation import Transcript, Translation, common_length
from outrider.drafters.base import DraftedSequence
from outrider.drafters.model import ModelDrafter, _Row
from outrider.errors import VocabularyError
from outrider.runtimes.loading import as_model

# Room in the draft model's cache for each token of the target: its tokens may be shorter. A text that outgrows its row
# is no longer drafted for.
DRAFT_TOKENS_PER_TOKEN = 2


class TranslatingDrafter(ModelDrafter):
    """A model drafter that shows its model the target's text in the model's own tokens.

    The end of a text may be encoded otherwise once more of it is known ("un", then "undo"), also where the draft
    model's cache holds it already: each call keeps what agrees, drops the rest and feeds what is missing.

    Args:
        model: the draft model.
        target: the target; of it only the vocabulary is used.
        min_survival: as ModelDrafter's.
        name: what its tokens are attributed to.

    Raises:
        VocabularyError: a model has no tokenizer.
        SettingError: min_survival is not within 0 to 1.
    """

    def __init__(self, model: Any, target: Any, *, greedy: bool, min_survival: float, name: str) -> None:
        model, target = as_model(model), as_model(target)
        super().__init__(model, greedy=greedy, min_survival=min_survival, name=name)
        self._translation = Translation(model, target)
        self._target_name, self._target_size = target.name, target.traits.vocab_size
        self._transcripts: dict[int, Transcript] = {}
        self._fed: dict[int, list[int]] = {}  # for each row the context that its permanent part is a beginning of

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        if vocab_size != self._target_size:
            raise VocabularyError(
                f"drafter {self.name} translates for {self._target_name}, whose vocabulary has {self._target_size} "
                f"tokens, and this target's has {vocab_size}: make a drafter for this target"
            )
        super().prepare(rows, capacity * DRAFT_TOKENS_PER_TOKEN, vocab_size)
        self._transcripts = {}
        self._fed = {}

    @property
    def bytes_per_token(self) -> int:  # type: ignore[override]
        return super().bytes_per_token * DRAFT_TOKENS_PER_TOKEN

    def _read_along(self, sequences: Sequence[DraftedSequence], counts: Sequence[int]) -> None:
        super()._read_along(sequences, counts)
        for sequence in sequences:
            self._fed[self._row_of(sequence).number] = self._context(sequence)

    def forget(self, sequence: DraftedSequence) -> None:
        super().forget(sequence)
        self._transcripts.pop(sequence.id, None)

    def _context(self, sequence: DraftedSequence) -> list[int]:
        if sequence.id not in self._transcripts:
            self._transcripts[sequence.id] = Transcript(self._translation)
        return self._transcripts[sequence.id].follow(sequence.tokens)

    def _catch_up(self, row: _Row, tokens: Sequence[int]) -> list[int]:
        session = self._opened()
        held = session.length(row.number)
        if held:
            agreed = common_length(self._fed[row.number][:held], tokens[:-1])
            if agreed < held:
                session.truncate(row.number, agreed)
                row.fed = []
        self._fed[row.number] = list(tokens)
        return super()._catch_up(row, tokens)
