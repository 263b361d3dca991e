"""Between the tokens of a target and those of a draft model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from outrider.drafters.base import DraftedSequence
from outrider.maths.arrays import Array, columns

UNKNOWN = -1  # in place of a number of tokens: one of them is not the draft model's


class VocabularyMap(Protocol):
    """Between the target's tokens and those of a draft model.

    Attributes:
        room: the draft model's tokens that a cache holds for each token of the target.
        shared_ids: drafted tokens below it have the draft model's own ids, so that its session may roll out greedily by
            itself; 0 where the ids differ.
    """

    @property
    def room(self) -> int: ...

    @property
    def shared_ids(self) -> int: ...

    def open(self, vocab_size: int) -> None:
        """Called when an engine opens, with the size of the target's vocabulary."""

    def text(self, sequence: DraftedSequence) -> Sequence[int]:
        """The text so far in the draft model's tokens; empty where nothing can be drafted from it.

        A list that is returned again has only grown.
        """

    def logits(self, logits: Array) -> Array:
        """Logits [rows, draft model's vocabulary] over the vocabulary that is drafted in."""

    def fed_as(self, token: int) -> int:
        """The draft model's id of a drafted token."""

    def forget(self, sequence: DraftedSequence) -> None:
        """The sequence has ended."""


class SameVocabulary:
    """Both models have one vocabulary; their logits may be padded to different widths.

    Nothing is drafted for a text that holds a token which only the target has.

    Args:
        width: the draft model's vocabulary.
    """

    room = 1

    def __init__(self, width: int) -> None:
        self.shared_ids = 0
        self._width = width
        self._known: dict[int, int] = {}  # tokens of each text that were looked at; UNKNOWN where one was not known

    def open(self, vocab_size: int) -> None:
        self.shared_ids = vocab_size
        self._known = {}

    def text(self, sequence: DraftedSequence) -> Sequence[int]:
        if self._width < self.shared_ids and self._holds_unknown(sequence):
            return ()
        return sequence.tokens

    def _holds_unknown(self, sequence: DraftedSequence) -> bool:
        known = self._known.get(sequence.id, 0)
        if known != UNKNOWN:
            unknown = any(token >= self._width for token in sequence.tokens[known:])
            known = self._known[sequence.id] = UNKNOWN if unknown else len(sequence.tokens)
        return known == UNKNOWN

    def logits(self, logits: Array) -> Array:
        width, wanted = logits.shape[-1], self.shared_ids
        if width > wanted:
            return logits[:, :wanted]
        if width < wanted:
            tokens = np.arange(wanted)
            return columns(logits, np.where(tokens < width, tokens, -1), -math.inf)
        return logits

    def fed_as(self, token: int) -> int:
        return token

    def forget(self, sequence: DraftedSequence) -> None:
        self._known.pop(sequence.id, None)
