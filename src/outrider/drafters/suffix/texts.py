"""The texts in which suffixes are looked up, and their automata."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.suffix.automaton import SuffixAutomaton, automaton_beside
from outrider.drafters.suffix.expected import Expectation
from outrider.drafters.suffix.memory import Follower, SuffixMemory


@dataclass(slots=True)
class Text:
    """What is known of one text.

    Attributes:
        automaton: of the text itself, behind the text that the caller predicts.
        expectation: its place in the predicted text; None where there is none.
        follower: its matches in a memory; None without one.
        read: how many of its tokens all of these hold.
    """

    automaton: SuffixAutomaton
    expectation: Expectation | None
    follower: Follower | None
    read: int = 0


class Texts:
    """All texts that a drafter follows. Rounds may be skipped: `catch_up` reads all that is missing.

    Args:
        library: the compiled library; None takes automata in Python.
        max_tokens: how much of a text is held; when it is full, the older half is forgotten.
        memory: of earlier requests, in which each text is followed too.
    """

    def __init__(self, library: Any | None, max_tokens: int, memory: SuffixMemory | None = None) -> None:
        self._library = library
        self._max_tokens = max_tokens
        self._memory = memory
        self._texts: dict[int, Text] = {}

    def clear(self) -> None:
        """The texts of an earlier engine do not come back."""
        self._texts = {}

    def catch_up(self, sequence: DraftedSequence) -> Text:
        """Read what the text has by now."""
        # Removed while it changes: after an interrupt the table must not hold a text that is read in part.
        text = self._texts.pop(sequence.id, None) or self._new(sequence)
        fresh = sequence.tokens[text.read :]
        text.automaton.extend(fresh)
        if text.follower is not None:
            text.follower.extend(fresh)
        if text.expectation is not None:
            text.expectation.follow(sequence.history.tokens)
        text.read = len(sequence.tokens)
        self._texts[sequence.id] = text
        return text

    def forget(self, sequence: DraftedSequence) -> None:
        """The text has ended."""
        self._texts.pop(sequence.id, None)

    def _new(self, sequence: DraftedSequence) -> Text:
        predicted = sequence.predicted
        return Text(
            automaton_beside(self._library, predicted, self._max_tokens),
            Expectation(predicted) if predicted else None,
            None if self._memory is None else self._memory.follow(),
        )
