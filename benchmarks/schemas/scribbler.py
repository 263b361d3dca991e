"""A model that writes at random over a real vocabulary, and likes to come to an end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from outrider.runtimes.base import Named, Traits
from outrider.runtimes.stateless import StatelessSession
from outrider.text import Tokenizer

SPREAD = 1.5  # standard deviation of the logits
CLOSING = 6.0  # added to the logits of tokens that close a string, a list or an object
CLOSERS = b'"}],'
KEPT = 64  # rows of logits


class Scribbler(Named):
    """Logits that depend on the last token alone.

    Args:
        tokenizer: whose tokens it writes.
        stop_token_ids: tokens that end a text.
        seed: of the logits.
        like: a model whose logits make half of these, as a draft model's are like its target's.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop_token_ids: frozenset[int], seed: int, like: Scribbler | None = None
    ) -> None:
        self.name = f"scribbler-{seed}"
        self.tokenizer: Tokenizer | None = tokenizer
        vocabulary = tokenizer.vocabulary
        self.traits = Traits(len(vocabulary), 4096, stop_token_ids)
        closing = [token for token, piece in enumerate(vocabulary) if piece and piece[0] in CLOSERS]
        self._bonus = np.zeros(len(vocabulary), dtype=np.float32)
        self._bonus[[*closing, *stop_token_ids]] = CLOSING
        self._seed = seed
        self._like = like
        self._after = lru_cache(KEPT)(self._make)

    def last_logits(self, tokens: Sequence[int], count: int) -> np.ndarray[Any, Any]:
        """Logits [count, vocab] at each of the last `count` tokens."""
        return np.stack([self._after(token) for token in tokens[len(tokens) - count :]])

    def free_bytes(self) -> int | None:
        return None  # it keeps no cache

    def open(self, rows: int, capacity: int) -> StatelessSession:
        return StatelessSession(self, rows, capacity)

    def _make(self, token: int) -> np.ndarray[Any, Any]:
        noise = np.random.default_rng([self._seed, token]).standard_normal(len(self._bonus), dtype=np.float32)
        own = SPREAD * noise + self._bonus
        return own if self._like is None else 0.5 * own + 0.5 * self._like._after(token)
