"""A tiny model that can be enumerated: a table of logits over the last few tokens.

Exactness is tested with it. It is also the smallest example of a Model and its Session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from outrider.errors import InputError, first_line
from outrider.runtimes.base import Named, Traits
from outrider.runtimes.stateless import StatelessSession
from outrider.text import Tokenizer, require_tokenizer
from outrider.values import listed, whole


class TableModel(Named):
    """Logits that depend on the last `order` tokens only.

    Args:
        logits: float [vocab, ..., vocab]: one axis for each token of the context, the newest last, then one for the
            next token. Positions before the first token count as token 0.
        stop_token_ids: tokens that end a text.
        context_length: the longest sequence, in tokens.
        tokenizer: for text; usually none.

    Raises:
        InputError: the axes of `logits` differ in length.
    """

    def __init__(
        self,
        logits: np.ndarray[Any, Any],
        *,
        name: str = "table",
        stop_token_ids: frozenset[int] = frozenset(),
        context_length: int = 4096,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        try:
            table = np.asarray(logits, dtype=np.float32)
        except (ValueError, TypeError, OverflowError, RuntimeError) as error:
            raise InputError(f"a table holds no numbers ({first_line(error)}): give an array of NumPy") from error
        if table.ndim < 1 or len(set(table.shape)) != 1 or not table.size:
            raise InputError(f"a table has shape {table.shape}: every axis must be as long as the vocabulary")
        require_tokenizer(tokenizer)
        self.table = table
        self.order = table.ndim - 1
        self.name = name
        stops = frozenset(listed("stop_token_ids", stop_token_ids, "token ids"))
        self.traits = Traits(table.shape[-1], whole("context_length", context_length, 2), stops)
        self.tokenizer = tokenizer

    @classmethod
    def random(cls, vocab_size: int, order: int = 1, *, spread: float = 2.0, seed: int = 0) -> TableModel:
        """A table of normally distributed logits with standard deviation `spread`."""
        generator = np.random.default_rng(seed)
        return cls(generator.normal(0, spread, (vocab_size,) * (order + 1)), name=f"random-table-{seed}")

    def logits_after(self, context: Sequence[int]) -> np.ndarray[Any, Any]:
        """The logits, float32 [vocab], of the token that follows `context`."""
        recent = tuple(context[-self.order :]) if self.order else ()
        index = (0,) * (self.order - len(recent)) + recent
        return np.asarray(self.table[index])

    def last_logits(self, tokens: Sequence[int], count: int) -> np.ndarray[Any, Any]:
        """Logits [count, vocab] at each of the last `count` tokens."""
        if count == 1:
            return self.logits_after(tokens)[None]
        ends = range(len(tokens) - count + 1, len(tokens) + 1)
        return np.array([self.logits_after(tokens[max(0, end - self.order) : end]) for end in ends])

    def free_bytes(self) -> int | None:
        return None  # it keeps no cache

    def open(self, rows: int, capacity: int) -> StatelessSession:
        return StatelessSession(self, rows, capacity)
