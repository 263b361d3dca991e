"""Goodput for drafters that estimate the chances of their own tokens: they are told prices, and decide."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np

from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.lookahead.goodput.asking import Asking
from outrider.lookahead.goodput.learning import Learner
from outrider.lookahead.goodput.share import Share
from outrider.lookahead.policy import ANY_DEPTH, Outcome, Times
from outrider.maths.budget import FREE, NO_BUDGET, Budget, Prices

SEQUENCE_MEMORY = 0.98  # EMA decay, per draft, of how right the estimates are for its sequence
POOL_MEMORY = 0.998  # the same for all sequences together, and per round in which nothing is drafted
IDLE_MEMORY = 0.98  # EMA decay of what is known about a sequence, per round without a draft
GAIN_MEMORY = 0.99  # EMA decay, per round, of what speculation gains
GAIN_PRIOR = 20.0  # pseudo-counts: plain rounds without gain, against which the first rounds are weighed
REPRICED = 4  # rounds for which prices stay as they are
LASTING = 8  # the same where nothing is drafted
TABLED = 16  # rounds for which they rest on the same table of passes: making one takes as long as a short draft


class PricedGoodput(Learner[Share]):
    """Tells each drafter what its tokens cost.

    A text that copies now and then is best drafted far where it copies and not at all elsewhere, and only the drafter
    sees which is the case. So the drafter decides, token by token, and this policy tells it prices, in tokens of output
    that could be emitted in the same time. A draft of n tokens costs (C(r + d + n) - C(r + d) + n p) / t: r is the
    number of rows, d the tokens that the other rows usually draft, C the time of a pass, p that of drafting a token,
    and t the present time per emitted token. A drafter that drafts while a token's chance exceeds its price maximises
    tokens per second: with t from the rounds so far, this is Dinkelbach's iteration for quotients.

    Estimates may be wrong, and then tend to stay wrong in the same way. They are corrected by the acceptance ratio
    accepted / expected, of all sequences and of each by itself. While nothing is drafted the correction fades, so that
    drafts are tried again: there is nothing to explore.

    Costs have steps, and the last token on a step is free. If every sequence took one because the others do, all would
    pay for a step that none would climb alone. So no draft pays less than its share of what all drafts cost together.

    Looking for a draft takes time too. Where it brings less than it takes, the drafter is asked now and then only
    (`Asking`).

    Args:
        most: tokens of the largest draft.
    """

    def __init__(self, most: int) -> None:
        super().__init__(partial(Share, SEQUENCE_MEMORY))
        self._most = most
        self._pool = Share(POOL_MEMORY)
        self._rounds = 0
        self._quiet = True  # whether nothing was drafted in the last round
        self._anyway = RunningMean()  # seconds of rounds in which no drafter is asked: it reads every pass
        self._spent = self._plain = 0.0  # EMAs of rounds' times, and of those of plain decoding for as many tokens
        self._drafted = RunningMean()  # tokens per row and round
        self._table: list[float] = []  # seconds of passes, as in the last prices
        self._seconds = FREE  # prices in seconds, for as many rows as there were last
        self._rows = self._tabled = 0  # how many these were, and in which round
        self._prices: dict[Hashable, Prices] = {}  # empty when new ones are due
        self._asking = defaultdict[Hashable, Asking](Asking)

    def budgets(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[Budget]:
        """The largest draft for each sequence, and the prices."""
        asked = [self._asking[sequence].pays for sequence in sequences]
        if not any(asked):
            return [NO_BUDGET] * len(asked)
        if self._prices.keys() != set(sequences):
            self._prices = dict(zip(sequences, self._prices_of(sequences, costs), strict=True))
        return [
            Budget(self._most, ANY_DEPTH, self._prices[sequence]) if pays else NO_BUDGET
            for sequence, pays in zip(sequences, asked, strict=True)
        ]

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        super().observe(outcomes, times)
        if self._rounds % (LASTING if self._quiet else REPRICED) == 0:
            self._prices = {}

    def forget(self, sequence: Hashable) -> None:
        super().forget(sequence)
        self._asking.pop(sequence, None)

    def _prices_of(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[Prices]:
        rows = len(sequences)
        if rows != self._rows or self._rounds - self._tabled >= TABLED or self._rounds < TABLED:
            self._rows, self._tabled = rows, self._rounds
            self._seconds = self._prices_in_seconds(rows, costs)
        per_token = self._time_ratio * (self._table[rows] + self.overhead.value) / rows
        rate = 1.0 / (per_token * self._trust)
        return [self._seconds.scaled(rate / self._sequences[sequence].factor) for sequence in sequences]

    def _prices_in_seconds(self, rows: int, costs: CostCurve) -> Prices:
        others = rows + (rows - 1) * self._drafted.value
        table = costs.table(rows, rows * (1 + self._most))
        self._table = table.tolist()
        passes = np.interp(others + np.arange(self._most + 1), np.arange(len(table)), table)
        _, position, token = self.draft_cost.prices
        drafted = np.arange(self._most + 1)
        share = (passes - table[rows]) * drafted / np.maximum(drafted + others - rows, 1)
        added = np.maximum(passes - passes[0], share) + (position + token) * drafted
        return Prices(tuple(added.tolist()), 1.0)

    @property
    def _time_ratio(self) -> float:
        """The time per emitted token, relative to plain decoding; at most 1."""
        return min((self._spent + GAIN_PRIOR) / (self._plain + GAIN_PRIOR), 1.0)

    @property
    def _trust(self) -> float:
        """The factor on the estimates for a sequence of which nothing is known.

        At most 1: drafters estimate too little mostly in texts with many drafts. Those texts would dominate the ratio,
        and raise it for all others.
        """
        return min(self._pool.factor, 1.0)

    def _learn_acceptance(self, outcomes: Sequence[Outcome]) -> None:
        self._quiet = True
        for outcome in outcomes:
            own = self._sequences[outcome.sequence]
            if not outcome.planned:
                self._asking[outcome.sequence].pass_by()
            if outcome.drafted:
                self._quiet = False
                own.add(outcome.accepted, outcome.expected * self._trust)
                self._pool.add(outcome.accepted, outcome.expected)
            else:
                own.fade(IDLE_MEMORY)
        if self._quiet:
            self._pool.fade(POOL_MEMORY)  # else a drafter that is not trusted could never show that it has become right

    def _learn_overhead(self, outcomes: Sequence[Outcome], times: Times) -> None:
        if any(outcome.planned for outcome in outcomes):
            self._rounds += 1
            super()._learn_overhead(outcomes, times)
            self._learn_gain(outcomes)
        else:
            self._anyway.add(times.drafting)

    def _learn_gain(self, outcomes: Sequence[Outcome]) -> None:
        """From the cost curve, not the clock: a pass that something held up says nothing about the worth of drafts."""
        rows, counts = len(outcomes), [outcome.drafted for outcome in outcomes]
        drafted = sum(counts)
        self._drafted.add(drafted / rows)
        plain = self._table[rows] + self.overhead.value
        spent = self._table[rows + drafted] + self.overhead.value + self.draft_cost.seconds(max(counts), drafted)
        spent += sum(outcome.weighed for outcome in outcomes)
        emitted = rows + sum(outcome.accepted for outcome in outcomes)
        asked = [outcome for outcome in outcomes if outcome.planned]
        call = max(self.draft_cost.prices[0] - self._anyway.value, 0.0) / len(asked)
        for outcome in asked:
            self._asking[outcome.sequence].learn(self._gain_of(outcome, rows, call, plain / rows))
        self._spent = GAIN_MEMORY * self._spent + spent / plain
        self._plain = GAIN_MEMORY * self._plain + emitted / rows

    def _gain_of(self, outcome: Outcome, rows: int, call: float, per_token: float) -> float:
        """What a draft brought, in tokens.

        Args:
            call: seconds of asking, the share of this sequence.
            per_token: seconds per emitted token, in plain decoding.
        """
        _, position, token = self.draft_cost.prices
        spent = self._table[rows + outcome.drafted] - self._table[rows]
        spent += call + (position + token) * outcome.drafted + outcome.weighed
        return outcome.accepted - spent / (per_token * self._time_ratio)

    def _learn_draft_cost(self, outcomes: Sequence[Outcome], times: Times) -> None:
        # Rounds in which the drafter found nothing are all alike: a few of them are enough.
        if not self._quiet or self._rounds % LASTING == 0:
            # Looking up a node on a branch takes as long as one on the path: a tree counts like a chain of its nodes.
            counts = [outcome.drafted for outcome in outcomes]
            weighed = sum(outcome.weighed for outcome in outcomes)
            self.draft_cost.observe(max(counts), sum(counts), max(times.drafting - weighed, 0.0))
