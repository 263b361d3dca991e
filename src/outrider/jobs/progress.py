"""How far a run is, and what its rounds were spent on."""

from __future__ import annotations

from dataclasses import dataclass

from outrider.engine.record import RoundRecord


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        total: prompts.
        before: results that were there already.
        finished: results of this run, errors included.
        decoded: those of them that took time.
        failed: results that are errors, those of before included.
        emitted, rounds, drafted, accepted: tokens, and the rounds of all texts, in this run; of texts that are not
            finished too.
        seconds: since decoding began.
        seconds_drafting, seconds_verification, seconds_elsewhere: the phases of the rounds.
    """

    total: int
    before: int
    finished: int = 0
    decoded: int = 0
    failed: int = 0
    emitted: int = 0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    seconds: float = 0.0
    seconds_drafting: float = 0.0
    seconds_verification: float = 0.0
    seconds_elsewhere: float = 0.0

    @property
    def done(self) -> int:
        return self.before + self.finished

    @property
    def tokens_per_second(self) -> float:
        return self.emitted / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """If the prompts to come take what those of this run took; None before the first."""
        return self.seconds / self.decoded * (self.total - self.done) if self.decoded else None

    def count(self, record: RoundRecord) -> None:
        self.seconds_drafting += record.seconds_drafting
        self.seconds_verification += record.seconds_verification
        self.seconds_elsewhere += record.seconds_elsewhere
        for part in record.sequences:
            self.emitted += len(part.tokens)
            self.rounds += bool(part.tokens)
            self.drafted += part.drafted
            self.accepted += part.accepted

    def add(self, other: Progress) -> None:
        """What another one counted, its prompts and seconds left out."""
        self.finished += other.finished
        self.decoded += other.decoded
        self.failed += other.failed
        self.emitted += other.emitted
        self.rounds += other.rounds
        self.drafted += other.drafted
        self.accepted += other.accepted
        self.seconds_drafting += other.seconds_drafting
        self.seconds_verification += other.seconds_verification
        self.seconds_elsewhere += other.seconds_elsewhere
