"""What a drafter brings and what it costs: one arm of a bandit that rests arms which do not pay, and probes them."""

from __future__ import annotations

DECAY = 0.9  # of the EMA of credit and seconds, per round
PATIENCE = 8  # rounds before the first decision
PROBE = 4  # rounds of a probe
FIRST_REST = 8  # rounds
LONGEST_REST = 256


class Account:
    """One of several drafters that work together.

    It pays as long as decoding the tokens that it is credited with (those that it alone brings, or brings in least
    time) would take longer than its drafting. One that does not pay is rested, and probed for a few rounds after each
    rest (exploration with exponential back-off): each probe that does not change the decision doubles the next rest.

    Attributes:
        rounds: in which it took part.
        credit: accepted tokens that it brought, in all.
        seconds: of drafting, in all.
    """

    def __init__(self) -> None:
        self.rounds = 0
        self.credit = 0
        self.seconds = 0.0
        self._recent_credit = 0.0
        self._recent_seconds = 0.0
        self._weight = 0.0
        self._undecided = PATIENCE
        self._rest = 0
        self._next_rest = FIRST_REST
        self._returning = False

    @property
    def resting(self) -> bool:
        return self._rest > 0

    @property
    def seconds_per_round(self) -> float:
        """Recent ones; of all rounds, where there is nothing recent."""
        if self._weight:
            return self._recent_seconds / self._weight
        return self.seconds / self.rounds if self.rounds else 0.0

    def pass_by(self) -> None:
        """A round of its rest is over."""
        self._rest -= 1
        self._returning = self._rest == 0

    def add(self, credit: int, seconds: float, seconds_per_token: float) -> None:
        """A round in which it took part.

        Args:
            credit: accepted tokens that it brought.
            seconds: that it took.
            seconds_per_token: what a token of the output takes at present.
        """
        self.rounds += 1
        self.credit += credit
        self.seconds += seconds
        if self._returning:
            # It caught up with the text, so this round shows no usual time. Figures before the rest are old.
            self._returning = False
            self._recent_credit = self._recent_seconds = self._weight = 0.0
            return
        self._weight = DECAY * self._weight + 1
        self._recent_credit = DECAY * self._recent_credit + credit
        self._recent_seconds = DECAY * self._recent_seconds + seconds
        self._undecided -= 1
        if self._undecided <= 0:
            self._decide(seconds_per_token)

    def _decide(self, seconds_per_token: float) -> None:
        """Go on, or rest."""
        if self._recent_credit * seconds_per_token >= self._recent_seconds:
            self._next_rest = FIRST_REST
        else:
            self._rest = self._next_rest
            self._next_rest = min(2 * self._next_rest, LONGEST_REST)
            self._undecided = PROBE
