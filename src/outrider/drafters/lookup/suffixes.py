"""Suffixes of the text so far, as a source of lookups."""

from __future__ import annotations

import sys
from typing import Any

from outrider.drafters.base import DraftedSequence, Reading
from outrider.drafters.lookup.source import Context, Foresight, Source
from outrider.drafters.suffix.automaton import Cursor, SuffixAutomaton
from outrider.drafters.suffix.expected import Expectation
from outrider.drafters.suffix.shares import foreseen
from outrider.drafters.suffix.texts import Texts
from outrider.runtimes.native.library import drafting

LONGEST_TOLD = 5  # match lengths from here on count as equally good evidence


def after_match(automaton: SuffixAutomaton, match: Cursor, widest: int | None = None) -> Foresight | None:
    """What followed a match; None where nothing did. The cursors are matches in the same automaton.

    Args:
        widest: as for `foreseen`.
    """
    found = foreseen(automaton, match, widest=widest).continuations
    if not found:
        return None
    likely = 0.0
    for _, share, _ in found:
        likely += share  # from Python 3.12 on `sum` rounds otherwise, and the compiled library as this does
    return Foresight(
        [(token, share) for token, share, _ in found],
        max(1.0 - likely, 0.0),
        {token: (automaton, longer) for token, _, longer in found},
        min(match.length, LONGEST_TOLD),
        match.length,
    )


class SuffixSource(Source):
    """What followed earlier occurrences of the end of the text, as SuffixTreeDrafter finds it, and the place of the
    output in a predicted text.

    Args:
        max_tokens: how much text is held; when it is full, the older half is forgotten.
    """

    name = "suffix"

    def __init__(self, max_tokens: int = 65_536) -> None:
        self.max_tokens = max_tokens
        self._library = drafting()
        self._texts = Texts(self._library, max_tokens)

    def join(self, lookups: Any) -> bool:
        if self._library is not None:
            lookups.add_matches(sys.maxsize)
        return self._library is not None

    def prepare(self, vocab_size: int) -> None:
        self._texts.clear()

    def read(self, sequence: DraftedSequence, reading: Reading) -> None:
        if reading.prefilled:
            self._texts.catch_up(sequence)

    def begin(self, sequence: DraftedSequence) -> Any:
        automaton = self._texts.catch_up(sequence).automaton
        return automaton, automaton.match

    def foresee(self, cursor: Any, context: Context) -> Foresight | None:
        return None if cursor is None else after_match(*cursor)

    def expectation(self, sequence: DraftedSequence) -> Expectation | None:
        return self._texts.catch_up(sequence).expectation if sequence.predicted else None

    def forget(self, sequence: DraftedSequence) -> None:
        self._texts.forget(sequence)
