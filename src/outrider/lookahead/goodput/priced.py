"""Prices for drafters that know how likely their tokens are accepted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.lookahead.costs.drafting import DraftCost
from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.lookahead.goodput.share import Share
from outrider.lookahead.policy import UNBOUNDED, Outcome, Times
from outrider.maths.arrays import HostFloats
from outrider.maths.budget import Budget, Prices

SEQUENCE_MEMORY = 0.98  # of what one draft says of the estimates for its sequence
POOL_MEMORY = 0.998  # of what it says of them for all sequences, and per round in which nothing is drafted
IDLE_MEMORY = 0.98  # of what a sequence knows, per round without a draft
GAIN_MEMORY = 0.99  # of one round after the next
GAIN_PRIOR = 20.0  # plain rounds that the first ones are weighed against
LASTING = 8  # rounds without a draft, for which prices hold


class PricedGoodput:
    """Goodput's part for drafters that estimate the chance of every token, round by round.

    A text that is copied now and then is best drafted far where it is copied and not at all elsewhere, and only the
    drafter sees in which of the two it is. So it is told what drafting costs, and decides. In units of the time that
    an emitted token takes at present, a draft of n tokens costs (C(r + d + n) - C(r + d) + n p) / t: r rows, of which
    the others draft d tokens as of late; C the time of a pass, p that of drafting a token, and t that of an emitted
    token. Drafting while a token's chance exceeds what it adds to this cost maximises tokens per second: t is what
    Dinkelbach's method for quotients iterates.

    An estimate may be wrong, and is then wrong alike for a while. The chances are corrected by accepted over expected
    tokens, of all sequences and of each by itself. Where nothing is drafted trust comes back in time.

    Where costs come in steps, the last token on a step is free. If every sequence took one because the others do, all
    of them would pay for the steps that only their sum has climbed. So none pays less than its share of what all
    drafts cost together.

    Args:
        most: the largest draft.
    """

    def __init__(self, most: int) -> None:
        self.draft_cost = DraftCost()
        self.overhead = RunningMean()
        self._most = most
        self._pool = Share(POOL_MEMORY)
        self._sequences: dict[Hashable, Share] = {}
        self._rounds = 0
        self._seconds = self._plain_seconds = 0.0  # of late: of rounds, and of plain rounds for as many tokens
        self._drafted = RunningMean()  # tokens per row and round
        self._drafted_last: set[Hashable] = set()
        self._table: HostFloats = np.empty(0)  # seconds of passes, as the last round was planned with
        self._prices: dict[Hashable, Prices] = {}  # that still hold

    def budgets(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[Budget]:
        if self._prices.keys() != set(sequences):
            self._prices = dict(zip(sequences, self._prices_of(sequences, costs), strict=True))
        return [Budget(self._most, UNBOUNDED, self._prices[sequence]) for sequence in sequences]

    def _prices_of(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[Prices]:
        rows = len(sequences)
        others = rows + (rows - 1) * self._drafted.value
        self._table = costs.table(rows, rows * (1 + self._most))
        passes = np.interp(others + np.arange(self._most + 1), np.arange(len(self._table)), self._table)
        _, position, token = self.draft_cost.prices
        drafted = np.arange(self._most + 1)
        share = (passes - self._table[rows]) * drafted / np.maximum(drafted + others - rows, 1)
        added = np.maximum(passes - passes[0], share) + (position + token) * drafted
        per_token = self._share_of_plain * (self._table[rows] + self.overhead.value) / rows
        prices = added / (per_token * self._trust)
        return [Prices(tuple((prices / self._of(sequence).factor).tolist())) for sequence in sequences]

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        for outcome in outcomes:
            self._learn_acceptance(outcome)
        if not any(outcome.drafted for outcome in outcomes):
            self._pool.fade(POOL_MEMORY)  # or a drafter that is not believed could never show that it is right by now
        drafting = {outcome.sequence for outcome in outcomes if outcome.planned}
        if times is not None and drafting:
            # A drafter that was left out for a while catches up first: that is no price of its tokens.
            self._learn_times(outcomes, times, steady=drafting <= self._drafted_last)
        self._drafted_last = drafting
        if self._rounds % LASTING == 0 or any(outcome.drafted for outcome in outcomes):
            self._prices = {}

    def forget(self, sequence: Hashable) -> None:
        self._sequences.pop(sequence, None)
        self._drafted_last.discard(sequence)

    def _of(self, sequence: Hashable) -> Share:
        if sequence not in self._sequences:
            self._sequences[sequence] = Share(SEQUENCE_MEMORY)
        return self._sequences[sequence]

    @property
    def _share_of_plain(self) -> float:
        """The time that an emitted token takes, of what it would in plain decoding."""
        return min((self._seconds + GAIN_PRIOR) / (self._plain_seconds + GAIN_PRIOR), 1.0)

    @property
    def _trust(self) -> float:
        """What estimates are worth in a sequence of which nothing is known.

        Not more than they say: texts in which they say too little are the ones with many drafts, and they would speak
        for all others.
        """
        return min(self._pool.factor, 1.0)

    def _learn_acceptance(self, outcome: Outcome) -> None:
        own = self._of(outcome.sequence)
        if outcome.drafted:
            own.add(outcome.accepted, outcome.expected * self._trust)
            self._pool.add(outcome.accepted, outcome.expected)
        else:
            own.fade(IDLE_MEMORY)

    def _learn_times(self, outcomes: Sequence[Outcome], times: Times, steady: bool) -> None:
        rows, drafted = len(outcomes), [outcome.drafted for outcome in outcomes]
        self._rounds += 1
        self.overhead.add(times.overhead)
        self._drafted.add(sum(drafted) / rows)
        # The curve, not the clock: a pass that was held up says nothing about what drafts are worth.
        plain = float(self._table[rows]) + self.overhead.value
        drafting = self.draft_cost.seconds(max(drafted), sum(drafted))
        spent = float(self._table[rows + sum(drafted)]) + self.overhead.value + drafting
        emitted = rows + sum(outcome.accepted for outcome in outcomes)
        self._seconds = GAIN_MEMORY * self._seconds + spent / plain
        self._plain_seconds = GAIN_MEMORY * self._plain_seconds + emitted / rows
        # Rounds in which nothing was found are all alike: a few of them are enough.
        if steady and (any(drafted) or self._rounds % LASTING == 0):
            self.draft_cost.observe(max(drafted), sum(drafted), times.drafting)
