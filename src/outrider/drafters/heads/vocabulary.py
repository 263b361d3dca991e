"""The part of the target's vocabulary that a head can draft."""

from __future__ import annotations

import math

import numpy as np

from outrider.maths.arrays import Array, HostInts, columns


class DraftVocabulary:
    """Goes between the target's tokens and those of the head.

    Args:
        ids: int64 [draft vocabulary], the target's id of each token that the head can draft.
        vocab_size: of the target.

    Attributes:
        size: of the target's vocabulary.
    """

    def __init__(self, ids: HostInts, vocab_size: int) -> None:
        self.size = vocab_size
        self._ids = ids
        self._places = np.full(vocab_size, -1, dtype=np.int64)
        self._places[ids] = np.arange(len(ids))

    def in_target(self, places: HostInts) -> list[int]:
        """The target's ids of tokens of the head."""
        return self._ids[places].tolist()  # type: ignore[no-any-return]

    def widened(self, logits: Array) -> Array:
        """[rows, vocabulary] of [rows, draft vocabulary]: what the head cannot draft is impossible."""
        return columns(logits, self._places, -math.inf)

    def narrowed(self, logits: Array) -> Array:
        """[rows, draft vocabulary] of [rows, vocabulary]."""
        return columns(logits, self._ids, -math.inf)

    def spread(self, q: Array) -> Array:
        """A distribution [vocabulary] of one over the draft vocabulary: 0 elsewhere."""
        return columns(q[None], self._places, 0.0)[0]
