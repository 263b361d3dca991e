"""What speculation did for one sequence."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from outrider.engine.events import Origin


@dataclass(slots=True)
class Statistics:
    """Counts and times of one sequence.

    Attributes:
        cached_tokens: prompt tokens that were not read, because a row of the KV cache already held them.
        rounds: how many forward passes of the target emitted tokens.
        emitted: tokens emitted; tokens past a stop do not count.
        drafted, accepted: draft tokens proposed, and accepted by the rule. The last accepted ones may lie past a stop.
        drafted_at, accepted_at: in how many rounds a token was proposed, and accepted, at each position after the
            pending token, the first at index 0.
        origins: emitted tokens by origin.
        drafter_failures: rounds in which the drafter failed.
        seconds_prefill: the target's prefill. Where one pass reads a prompt and verifies, its tokens share its time.
        seconds_drafting: drafting, the draft model's prefill included.
        seconds_verification: the target's forward passes.
        seconds_elsewhere: everything else in the rounds.
    """

    cached_tokens: int = 0
    rounds: int = 0
    emitted: int = 0
    drafted: int = 0
    accepted: int = 0
    drafted_at: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)
    origins: Counter[Origin] = field(default_factory=Counter)
    drafter_failures: int = 0
    seconds_prefill: float = 0.0
    seconds_drafting: float = 0.0
    seconds_verification: float = 0.0
    seconds_elsewhere: float = 0.0

    @property
    def mean_tokens_per_round(self) -> float:
        """Emitted tokens per forward pass of the target (tau in the papers); 1 in plain decoding."""
        return self.emitted / self.rounds if self.rounds else 0.0

    @property
    def acceptance_rate(self) -> float:
        """Accepted / drafted; 0 where nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def seconds_decoding(self) -> float:
        """The time of all rounds without the target's prefill."""
        return self.seconds_drafting + self.seconds_verification + self.seconds_elsewhere

    @property
    def tokens_per_second(self) -> float:
        """Emitted tokens per second of decoding."""
        return self.emitted / self.seconds_decoding if self.seconds_decoding else 0.0

    def count_round(self, drafted: int, deepest: int, accepted: int) -> None:
        """Count a round that was judged.

        Args:
            drafted: the tokens of the draft.
            deepest: how many of them the longest path holds.
            accepted: how many were accepted.
        """
        self.rounds += 1
        if not drafted:
            return
        self.drafted += drafted
        self.accepted += accepted
        if deepest > len(self.drafted_at):
            for counts in (self.drafted_at, self.accepted_at):
                counts.extend([0] * (deepest - len(counts)))
        for position in range(deepest):
            self.drafted_at[position] += 1
        for position in range(accepted):
            self.accepted_at[position] += 1

    def count_time(self, drafting: float, verification: float, elsewhere: float, *, read: int, fed: int) -> None:
        """Add the phases of a round, in seconds.

        Args:
            read: how many of the `fed` tokens are of the prompt, the pending one aside.
        """
        reading = verification * read / fed
        self.seconds_prefill += reading
        self.seconds_drafting += drafting
        self.seconds_verification += verification - reading
        self.seconds_elsewhere += elsewhere

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, for JSON."""
        return {
            **asdict(self),
            "origins": {str(origin): count for origin, count in self.origins.items()},
            "mean_tokens_per_round": self.mean_tokens_per_round,
            "acceptance_rate": self.acceptance_rate,
            "tokens_per_second": self.tokens_per_second,
        }
