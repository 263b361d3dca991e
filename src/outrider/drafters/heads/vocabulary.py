"""The part of the target's vocabulary that a head can draft."""

from __future__ import annotations

import math

import torch

from outrider.maths.arrays import HostInts


class DraftVocabulary:
    """Goes between the target's tokens and those of the head.

    Args:
        ids: int64 [draft vocabulary], the target's id of each token that the head can draft.
        vocab_size: of the target.
    """

    def __init__(self, ids: torch.Tensor, vocab_size: int) -> None:
        self._ids = ids
        self._on_host = ids.cpu().numpy()
        self._vocab_size = vocab_size

    def in_target(self, places: HostInts) -> list[int]:
        """The target's ids of tokens of the head."""
        return self._on_host[places].tolist()  # type: ignore[no-any-return]

    def widened(self, logits: torch.Tensor) -> torch.Tensor:
        """[rows, vocabulary] of [rows, draft vocabulary]: what the head cannot draft is impossible."""
        wide = logits.new_full((len(logits), self._vocab_size), -math.inf)
        wide[:, self._ids] = logits
        return wide

    def narrowed(self, logits: torch.Tensor) -> torch.Tensor:
        """[rows, draft vocabulary] of [rows, vocabulary]."""
        return logits[:, self._ids]

    def spread(self, q: torch.Tensor) -> torch.Tensor:
        """A distribution [vocabulary] of one over the draft vocabulary: 0 elsewhere."""
        wide = q.new_zeros(self._vocab_size)
        wide[self._ids] = q
        return wide
