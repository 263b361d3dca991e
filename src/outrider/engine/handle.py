"""The handle of a submitted request."""

from __future__ import annotations

from collections.abc import Callable

from outrider.engine.events import FinishReason
from outrider.engine.sequence import ActiveSequence
from outrider.engine.statistics import Statistics


class Handle:
    """A text that an engine decodes or has decoded: its tokens so far, its state, and `cancel`.

    It is up to date after every `step` of its engine. Handles of the same text are equal.
    """

    __slots__ = ("_cancel", "_sequence")

    def __init__(self, sequence: ActiveSequence, cancel: Callable[[ActiveSequence], None]) -> None:
        self._sequence = sequence
        self._cancel = cancel

    @property
    def id(self) -> int:
        """The number of this text in events and records."""
        return self._sequence.id

    @property
    def tokens(self) -> list[int]:
        """The tokens emitted so far, a stop token included, the prompt left out."""
        return list(self._sequence.output)

    @property
    def text(self) -> str:
        """Their text, without a stop string or stop token; empty if there is no tokenizer."""
        return self._sequence.text

    @property
    def prompt_length(self) -> int:
        """The tokens of the prompt."""
        return len(self._sequence.request.prompt)

    @property
    def prompt_read(self) -> int:
        """How many of them the target has read, or need not read."""
        return self.prompt_length if self._sequence.output else self._sequence.prompt_read

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the text ended; None while it goes on."""
        return self._sequence.finish_reason

    @property
    def error(self) -> Exception | None:
        """The error with which the text ended; None if it did not fail."""
        return self._sequence.error

    @property
    def stats(self) -> Statistics:
        """What speculation did."""
        return self._sequence.statistics

    @property
    def seed(self) -> int:
        """The seed that reproduces the text: the request's own, or the one that the engine drew."""
        return self._sequence.seed

    def cancel(self) -> None:
        """End the text: it emits no more tokens, and its row or its place in the queue is free at once.

        A text that has already ended stays as it is.
        """
        self._cancel(self._sequence)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other._sequence is self._sequence

    def __hash__(self) -> int:
        return hash(id(self._sequence))

    def __repr__(self) -> str:
        state = self.finish_reason or "unfinished"
        return f"Handle({self.id}, {state}, {len(self._sequence.output)} tokens)"
