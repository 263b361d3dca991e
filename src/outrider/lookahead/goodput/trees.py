"""Goodput for trees: how many nodes each sequence drafts, and how deep."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.goodput.best_stop import best_stop
from outrider.lookahead.goodput.learning import Learner
from outrider.lookahead.goodput.probing import Patience, Probing
from outrider.lookahead.goodput.share import Share
from outrider.lookahead.goodput.tree_counts import TreeCounts
from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats
from outrider.maths.budget import Budget

LIMITS = (1, 2, 3, 4, 6, 8, 12, 16)  # bounds on the depth that compete
LONGEST_WAIT = 256  # plain rounds between two probes, at the most
IDLE_MEMORY = 0.98  # EMA decay of what is known about a sequence, per plain round
DEEP_LOOK = 32  # exploration of depth: every so many rounds a tree has no bound on it


class _Sequence:
    """What is known about one sequence."""

    def __init__(self, patience: Patience) -> None:
        self.share = Share()
        self.probing = Probing(patience)
        self.expected = 0.0  # tokens of the planned tree that should be accepted


class _Best(NamedTuple):
    limit: int  # the bound on the depth, as an index into the limits
    nodes: list[int]  # of each sequence
    rate: float  # expected tokens per second


class TreeGoodput(Learner[_Sequence]):
    """Plans the sizes and the depth of trees.

    A tree of n nodes and at most d levels is expected to have sum_(i < n) S_d(i) tokens accepted, where S_d(i) is the
    chance that its i-th best node is. It costs a pass of the target over 1 + n tokens, and drafting, which grows with
    levels rather than nodes. For every d the nodes of all rows are added in the order of S; the plan is the prefix with
    the best quotient.

    Args:
        most: nodes of the largest tree.
    """

    def __init__(self, most: int) -> None:
        super().__init__(partial(_Sequence, Patience(LONGEST_WAIT)))
        limits = tuple(limit for limit in LIMITS if limit < most)
        self._most = most
        self._counts = TreeCounts((*limits, most), most)
        self._plans = 0

    def budgets(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[Budget]:
        """How large and how deep each sequence's tree may be; 0 nodes decode plainly."""
        known = [self._sequences[sequence] for sequence in sequences]
        factors = np.array([sequence.share.factor for sequence in known])
        self._plans += 1
        rows = len(known)
        seconds = self._seconds(rows, costs)
        place, nodes, rate = self._best(factors, seconds)
        if rate <= rows / (seconds[rows] + self.overhead.value):
            place, nodes = 0, [0] * rows
        limits = self._counts.limits
        depth = limits[-1] if self._plans % DEEP_LOOK == 0 else limits[place]
        chances = self._counts.chances()[place]
        for row, sequence in enumerate(known):
            sequence.probing.plan(pays=nodes[row] > 0)
            if not nodes[row] and sequence.probing.idle >= sequence.probing.wait:
                sequence.probing.now = True
                nodes[row] = self._best(factors[row : row + 1], self._seconds(1, costs)).nodes[0]
            sequence.expected = factors[row] * float(chances[: nodes[row]].sum()) if nodes[row] else 0.0
        return [Budget(count, depth) for count in nodes]

    def _best(self, factors: HostFloats, seconds: HostFloats) -> _Best:
        """The best plan in which at least one node is drafted.

        Args:
            factors: [sequences], by which the chances of each sequence differ from those of all.
            seconds: of passes over 0, 1, ... tokens.
        """
        rows = len(factors)
        chances, sizes, levels = self._counts.chances(), self._counts.sizes(), self._counts.levels()
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
        return _Best(place, np.bincount(order[place, : last + 1] % rows, minlength=rows).tolist(), rate)

    def _seconds(self, rows: int, costs: CostCurve) -> HostFloats:
        """Of passes over 0, 1, ... tokens, up to those of the largest trees."""
        return costs.table(rows, rows * (1 + self._most))

    def _learn_acceptance(self, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            sequence = self._sequences[outcome.sequence]
            sequence.probing.learn(outcome.planned > 0, outcome.accepted)
            if outcome.planned:
                self._counts.add(outcome)
                sequence.share.add(outcome.accepted, sequence.expected / max(sequence.share.factor, 1e-9))
            else:
                sequence.share.fade(IDLE_MEMORY)
