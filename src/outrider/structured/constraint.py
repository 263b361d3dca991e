"""A grammar in the terms of one tokenizer: a logits processor, and what the engine asks besides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from outrider.errors import InputError, first_line
from outrider.maths.arrays import Array, HostTruths, keep_where
from outrider.maths.processors import Constraint
from outrider.structured.cursors import Cursors
from outrider.structured.grammars import Grammar
from outrider.structured.vocabulary import token_bytes
from outrider.text import Tokenizer


class GrammarConstraint(Constraint):
    """Allows the texts of a grammar, token by token. One may serve several texts and threads.

    Stop tokens are allowed exactly where the grammar may end. Where a grammar prescribes text, the tokens are those
    that the tokenizer writes it with. Behind the end of a text nothing is changed: nothing there is ever emitted.

    Args:
        tokenizer: of the model.
        vocab_size: the width of its logits.
        stop_token_ids: tokens that end a text; without any, a text ends where nothing may follow.

    Attributes:
        grammar: as given.

    Raises:
        ModelError: llguidance is not installed.
        VocabularyError: the tokenizer's tokens are not pieces of text with bytes of their own.
        SettingError: the grammar is wrong, or says what llguidance cannot follow.
    """

    def __init__(
        self,
        grammar: Grammar,
        tokenizer: Tokenizer,
        vocab_size: int,
        stop_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.grammar = grammar
        self._tokenizer = tokenizer  # keeps alive what writes prescribed text
        bytes_of = token_bytes(tokenizer, vocab_size, stop_token_ids)
        self._vocab_size = vocab_size
        self._stops = bytes_of.stops
        self._cursors = Cursors(bytes_of.matcher(grammar))
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.grammar!r})"

    def __call__(self, output: Sequence[int], logits: Array, /) -> Array:
        """Raises InputError where the grammar is too complex to go on with."""
        allowed = self.allowed(output)
        return logits if allowed is None else keep_where(logits, allowed, -math.inf)

    def allowed(self, output: Sequence[int]) -> HostTruths | None:
        """[vocab]: which tokens may follow; None behind the end of a text.

        Raises:
            InputError: the grammar is too complex to go on with.
        """
        with self._lock:
            matcher = self._cursors.at(output)
            if matcher is None or (matcher.is_stopped() and not self._stops):
                self._check(matcher)
                return None
            packed = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            self._check(matcher)
        return np.unpackbits(packed, count=self._vocab_size, bitorder="little").view(np.bool_)

    def admits(self, output: Sequence[int]) -> bool:
        with self._lock:
            return self._cursors.at(output) is not None

    def forced(self, output: Sequence[int]) -> list[int]:
        with self._lock:
            matcher = self._cursors.at(output)
            return [] if matcher is None or matcher.is_stopped() else list(matcher.compute_ff_tokens())

    def ended(self, output: Sequence[int]) -> bool:
        with self._lock:
            matcher = self._cursors.at(output)
            return matcher is not None and bool(matcher.is_stopped()) and not matcher.is_error()

    def _check(self, matcher: Any) -> None:
        if matcher is None or not matcher.is_error():
            return
        reason = first_line(ValueError(matcher.get_error()))
        if reason.startswith("NoExtension"):
            raise InputError(
                f"the {self.grammar.kind} wants text that no token of the vocabulary can begin: allow other text"
            )
        raise InputError(
            f"the {self.grammar.kind} is too complex to go on with ({reason}): write it with fewer alternatives"
        )
