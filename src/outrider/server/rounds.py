"""What happened in each round, carried from the engine's thread to the answers that ask for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from outrider.engine.handle import Handle
from outrider.engine.record import RoundRecord, SequenceRound


@dataclass(frozen=True, slots=True)
class TextRound:
    """One text's part in a round.

    Attributes:
        record: the round.
        part: what the text had of it.
        plain_seconds: what a plain round of as many rows takes, as measured; None where that is not known.
    """

    record: RoundRecord
    part: SequenceRound
    plain_seconds: float | None


Followed = deque[TextRound]


class Rounds:
    """An engine's observer. Answers follow their texts; listeners hear of every round.

    Args:
        listener: called with every record, in the engine's thread; returns `plain_seconds`.
    """

    def __init__(self, listener: Callable[[RoundRecord], float | None]) -> None:
        self._listener = listener
        self._followed: dict[int, Followed] = {}

    def __call__(self, record: RoundRecord) -> None:
        plain_seconds = self._listener(record)
        if self._followed:
            for part in record.sequences:
                queue = self._followed.get(part.sequence)
                if queue is not None and part.tokens:
                    queue.append(TextRound(record, part, plain_seconds))

    def follow(self, handle: Handle) -> Followed:
        """The rounds that emit tokens of this text, from now on. Called in the engine's thread."""
        return self._followed.setdefault(handle.id, deque())

    def leave(self, handle: Handle) -> None:
        """Keep no more of this text."""
        self._followed.pop(handle.id, None)
