"""How large and how deep a tree shall be, by the tokens per second that it promises."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.arrays import HostFloats
from outrider.budget import Budget
from outrider.lookahead.costs import CostCurve
from outrider.lookahead.draft_cost import DraftCost
from outrider.lookahead.policy import Outcome, Times
from outrider.lookahead.share import Share
from outrider.lookahead.tree_survival import TreeCounts

LIMITS = (1, 2, 3, 4, 6, 8, 12, 16)  # bounds on the depth that compete
FIRST_WAIT = 4  # plain rounds before the first probe
LONGEST_WAIT = 256
IDLE_MEMORY = 0.98  # of what a sequence knows, per plain round
OVERHEAD_STEP = 0.05
DEEP_LOOK = 32  # every so many rounds a tree may be as deep as it likes, to learn what depth would bring


class _Sequence:
    """What is known of one sequence."""

    def __init__(self, wait: int) -> None:
        self.share = Share()
        self.wait = wait
        self.idle = 0
        self.probing = False
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
        self.overhead = 0.0
        self._counts = TreeCounts((*limits, max(nodes, 1)), nodes)
        self._rounds = 0
        self._plans = 0
        self._first_wait = FIRST_WAIT
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
            sequence.probing = not nodes and sequence.idle >= sequence.wait
            if nodes:
                sequence.wait = self._first_wait = FIRST_WAIT
            elif sequence.probing:
                nodes = self._best(factors[row : row + 1], costs, at_least=1)[1][0]
            sequence.expected = factors[row] * float(self._counts.chances()[place, :nodes].sum()) if nodes else 0.0
            budgets.append(Budget(nodes, limit))
        return budgets

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        for outcome in outcomes:
            self._learn_acceptance(outcome)
        drafting = {outcome.sequence for outcome in outcomes if outcome.planned}
        if times is not None:
            self._rounds += 1
            step = max(OVERHEAD_STEP, 1 / self._rounds)
            self.overhead += step * (min(times.elsewhere, times.verification) - self.overhead)
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
            self._sequences[sequence] = _Sequence(self._first_wait)
        return self._sequences[sequence]

    def _best(self, factors: HostFloats, costs: CostCurve, at_least: int = 0) -> tuple[int, list[int]]:
        """The bound on the depth, by its place among the limits, and the nodes of each sequence."""
        rows = len(factors)
        chances, sizes, levels = self._counts.chances(), self._counts.sizes(), self._counts.levels()
        nodes = chances.shape[1]
        seconds = costs.table(rows, rows * (1 + nodes))
        call, level, token = self.draft_cost.prices
        best_place, best = 0, [0] * rows
        best_rate = -1.0 if at_least else rows / (seconds[rows] + self.overhead)
        for place in range(len(self._counts.limits)):
            # Node by node, so that at equal chances an earlier node comes first.
            gains = np.minimum(chances[place][:, None] * factors[None, :], 1.0).ravel()
            order = np.argsort(-gains, kind="stable")
            drafted = np.cumsum(np.repeat(sizes[place], rows)[order])
            deepest = np.maximum.accumulate(levels[place][order // rows])
            passes = np.interp(rows + drafted, np.arange(len(seconds)), seconds)
            spent = passes + call + level * deepest + token * drafted + self.overhead
            rates = (rows + np.cumsum(gains[order])) / spent
            top = int(np.argmax(rates))
            if rates[top] > best_rate:
                best_rate, best_place = float(rates[top]), place
                best = np.bincount(order[: top + 1] % rows, minlength=rows).tolist()
        return best_place, best

    def _learn_acceptance(self, outcome: Outcome) -> None:
        sequence = self._of(outcome.sequence)
        if not outcome.planned:
            sequence.idle += 1
            sequence.share.fade(IDLE_MEMORY)
            return
        self._counts.add(outcome)
        sequence.share.add(outcome.accepted, sequence.expected / max(sequence.share.factor, 1e-9))
        sequence.idle = 0
        if sequence.probing:
            if outcome.accepted:
                sequence.idle = 2 * LONGEST_WAIT  # worth another look at once
            sequence.wait = min(2 * sequence.wait, LONGEST_WAIT)
            # Sequences to come start as patient as those before them had to become.
            self._first_wait = min(2 * self._first_wait, LONGEST_WAIT // 4)
