"""How large and how deep a tree shall be, by the tokens per second that it promises."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.lookahead.costs.drafting import DraftCost
from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.lookahead.goodput.best_stop import best_stop
from outrider.lookahead.goodput.probing import Patience, Probing
from outrider.lookahead.goodput.share import Share
from outrider.lookahead.goodput.tree_survival import TreeCounts
from outrider.lookahead.policy import Outcome, Times
from outrider.maths.arrays import HostFloats
from outrider.maths.budget import Budget

LIMITS = (1, 2, 3, 4, 6, 8, 12, 16)  # bounds on the depth that compete
LONGEST_WAIT = 256  # plain rounds between two probes
IDLE_MEMORY = 0.98  # of what a sequence knows, per plain round
DEEP_LOOK = 32  # every so many rounds a tree may be as deep as it likes, to learn what depth would bring


class _Sequence:
    """What is known of one sequence."""

    def __init__(self, patience: Patience) -> None:
        self.share = Share()
        self.probing = Probing(patience)
        self.expected = 0.0


class TreeGoodput:
    """Goodput's part for drafters that propose trees.

    A tree of n nodes and at most d levels is expected to have sum_(i < n) S_d(i) tokens accepted, where S_d(i) is the
    chance that its i-th best node is. It costs a pass of the target over 1 + n tokens, and drafting, which grows with
    levels rather than nodes. For every d the nodes of all rows are added in the order of S, and the best quotient is
    taken.

    Args:
        nodes: the largest tree.
    """

    def __init__(self, nodes: int) -> None:
        limits = tuple(limit for limit in LIMITS if limit < nodes)
        self.draft_cost = DraftCost()
        self.overhead = RunningMean()
        self._counts = TreeCounts((*limits, max(nodes, 1)), nodes)
        self._plans = 0
        self._patience = Patience(LONGEST_WAIT)
        self._sequences: dict[Hashable, _Sequence] = {}
        self._drafted_last: set[Hashable] = set()

    def budgets(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[Budget]:
        known = [self._of(sequence) for sequence in sequences]
        factors = np.array([sequence.share.factor for sequence in known])
        self._plans += 1
        place, chosen = self._best(factors, costs)
        limits = self._counts.limits
        limit = limits[-1] if self._plans % DEEP_LOOK == 0 else limits[place]
        budgets = []
        for row, sequence in enumerate(known):
            nodes = chosen[row]
            sequence.probing.plan(pays=nodes > 0)
            if not nodes and sequence.probing.idle >= sequence.probing.wait:
                sequence.probing.now = True
                nodes = self._best(factors[row : row + 1], costs, at_least=1)[1][0]
            sequence.expected = factors[row] * float(self._counts.chances()[place, :nodes].sum()) if nodes else 0.0
            budgets.append(Budget(nodes, limit))
        return budgets

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        for outcome in outcomes:
            self._learn_acceptance(outcome)
        drafting = {outcome.sequence for outcome in outcomes if outcome.planned}
        if times is not None:
            self.overhead.add(times.overhead)
            # A drafter that was left out for a while catches up first: that is no price of its tokens.
            if drafting and drafting <= self._drafted_last:
                levels = max(max(outcome.depths, default=outcome.drafted) for outcome in outcomes)
                self.draft_cost.observe(levels, sum(outcome.drafted for outcome in outcomes), times.drafting)
        self._drafted_last = drafting

    def forget(self, sequence: Hashable) -> None:
        self._sequences.pop(sequence, None)
        self._drafted_last.discard(sequence)

    def _of(self, sequence: Hashable) -> _Sequence:
        if sequence not in self._sequences:
            self._sequences[sequence] = _Sequence(self._patience)
        return self._sequences[sequence]

    def _best(self, factors: HostFloats, costs: CostCurve, at_least: int = 0) -> tuple[int, list[int]]:
        """The bound on the depth, by its place among the limits, and the nodes of each sequence."""
        rows = len(factors)
        chances, sizes, levels = self._counts.chances(), self._counts.sizes(), self._counts.levels()
        nodes = chances.shape[1]
        seconds = costs.table(rows, rows * (1 + nodes))
        call, level, token = self.draft_cost.prices
        # Node by node, so that at equal chances an earlier node comes first.
        gains = np.minimum(chances[:, :, None] * factors, 1.0).reshape(len(chances), -1)
        order = np.argsort(-gains, axis=1, kind="stable")
        drafted = np.cumsum(np.take_along_axis(sizes, order // rows, axis=1), axis=1)
        deepest = np.maximum.accumulate(np.take_along_axis(levels, order // rows, axis=1), axis=1)
        passes = np.interp(rows + drafted, np.arange(len(seconds)), seconds)
        drafting = call + level * deepest + token * drafted
        gains = np.take_along_axis(gains, order, axis=1)
        place, last, rate = best_stop(rows, gains, drafting, passes, self.overhead.value)
        if not at_least and rate <= rows / (seconds[rows] + self.overhead.value):
            return 0, [0] * rows
        return place, np.bincount(order[place, : last + 1] % rows, minlength=rows).tolist()

    def _learn_acceptance(self, outcome: Outcome) -> None:
        sequence = self._of(outcome.sequence)
        sequence.probing.learn(outcome.planned > 0, outcome.accepted)
        if outcome.planned:
            self._counts.add(outcome)
            sequence.share.add(outcome.accepted, sequence.expected / max(sequence.share.factor, 1e-9))
        else:
            sequence.share.fade(IDLE_MEMORY)
