"""The lookahead that promises the most tokens per second, from measured times and observed acceptance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.arrays import HostFloats
from outrider.draft import Budget
from outrider.errors import SettingError
from outrider.lookahead.costs import CostCurve
from outrider.lookahead.draft_cost import DraftCost
from outrider.lookahead.policy import LookaheadPolicy, Outcome, Times
from outrider.lookahead.survival import POOL_MEMORY, SEQUENCE_MEMORY, Counts, pooled_chances, survival
from outrider.lookahead.tree_goodput import TreeGoodput

FIRST_WAIT = 4  # plain rounds before the first probe
LONGEST_WAIT = 256
IDLE_MEMORY = 0.98  # of what a sequence knows, per plain round: the text may have changed
OVERHEAD_STEP = 0.05


class _Sequence:
    """What is known of one sequence."""

    def __init__(self, positions: int, wait: int) -> None:
        self.accepted = Counts(positions, SEQUENCE_MEMORY)
        self.drafted = Counts(positions, SEQUENCE_MEMORY)
        self.wait = wait
        self.idle = 0
        self.probing = False


class Goodput(LookaheadPolicy):
    """Maximises expected emitted tokens per second, over all sequences of a round together.

    For sequence s, S_s(i) is the chance that its draft is accepted up to position i and D_s(i) the chance that its
    drafter goes so far at all. Lookaheads k_s emit sum_s (1 + sum_{i <= k_s} S_s(i)) tokens, in the time of drafting
    plus that of a forward pass over sum_s (1 + sum_{i <= k_s} D_s(i)) tokens plus everything else. Tokens are added in
    the order of their S, and the best quotient met on the way is taken; k = 0 competes like any other lookahead. S and
    D are counted per sequence and lean on those of all (see survival.py); times are measured (see costs.py and
    draft_cost.py).

    Where 0 wins, nothing is learned of acceptance any more: a sequence then tries its most promising lookahead once
    after 4 rounds, and waits twice as long after each try that did not change the verdict.

    Args:
        max_lookahead: in tokens; the nodes of a tree, for which depth and number are chosen (see tree_goodput.py).
        costs: of the target's passes; None has the engine measure them when it opens.

    Raises:
        SettingError: max_lookahead is below 1.
    """

    wants_costs = True

    def __init__(self, max_lookahead: int = 16, *, costs: CostCurve | None = None) -> None:
        if max_lookahead < 1:
            raise SettingError(f"max_lookahead is {max_lookahead}: it must be at least 1")
        self.max_lookahead = max_lookahead
        self.costs = costs
        self.draft_cost = DraftCost()
        self.overhead = 0.0
        self._rounds = 0
        self._accepted = Counts(max_lookahead, POOL_MEMORY)
        self._drafted = Counts(max_lookahead, POOL_MEMORY)
        self._first_wait = FIRST_WAIT
        self._sequences: dict[Hashable, _Sequence] = {}
        self._drafted_last: set[Hashable] = set()
        self._of_trees = TreeGoodput(max_lookahead)

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        known = [self._of(sequence) for sequence in sequences]
        pool_accepted, pool_drafted = pooled_chances(self._accepted), pooled_chances(self._drafted)
        survives = np.stack([survival(s.accepted, pool_accepted) for s in known])
        drafts = np.stack([survival(s.drafted, pool_drafted) for s in known])
        chosen = self._best(survives, np.maximum(drafts, survives))
        for place, sequence in enumerate(known):
            if chosen[place]:
                sequence.probing = False
                sequence.wait = self._first_wait = FIRST_WAIT
                continue
            sequence.probing = sequence.idle >= sequence.wait
            if sequence.probing:
                alone = slice(place, place + 1)
                chosen[place] = self._best(survives[alone], drafts[alone], at_least=1)[0]
        return chosen

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        if not self.trees:
            return super().budgets(sequences)
        if self.costs is None:
            self.costs = CostCurve()
        return self._of_trees.budgets(sequences, self.costs)

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        if self.trees:
            self._of_trees.observe(outcomes, times)
            return
        for outcome in outcomes:
            self._learn_acceptance(outcome)
        drafting = {outcome.sequence for outcome in outcomes if outcome.planned}
        if times is not None:
            # A drafter that was left out for a while catches up first: that is no price of its tokens.
            self._learn_times(outcomes, times, steady=drafting <= self._drafted_last)
        self._drafted_last = drafting

    def forget(self, sequence: Hashable) -> None:
        self._of_trees.forget(sequence)
        self._sequences.pop(sequence, None)
        self._drafted_last.discard(sequence)

    def expected(self, sequence: Hashable) -> HostFloats:
        """[max_lookahead]: the chance that a draft of this sequence is accepted up to each position."""
        return survival(self._of(sequence).accepted, pooled_chances(self._accepted))

    def _of(self, sequence: Hashable) -> _Sequence:
        if sequence not in self._sequences:
            self._sequences[sequence] = _Sequence(self.max_lookahead, self._first_wait)
        return self._sequences[sequence]

    def _best(self, survives: HostFloats, drafts: HostFloats, at_least: int = 0) -> list[int]:
        """The lookahead of each sequence; `survives` and `drafts` are S and D, [sequences, positions]."""
        rows, positions = survives.shape
        if self.costs is None:
            self.costs = CostCurve()
        seconds = self.costs.table(rows, rows * (1 + positions))
        prices = self.draft_cost.prices
        best_rate, best = -1.0, [0] * rows
        if not at_least:
            best_rate = rows / (seconds[rows] + self.overhead)
        # The longest draft sets how many passes a draft model makes, so that several longest ones are tried.
        for longest in (positions,) if rows == 1 else _longest_to_try(positions):
            # Position by position, so that at equal chances an earlier position comes first.
            gains = survives[:, :longest].T.ravel()
            weights = drafts[:, :longest].T.ravel()
            order = np.argsort(-gains, kind="stable")
            drafted = np.cumsum(weights[order])
            if rows == 1:
                passes = seconds[1] + np.cumsum(weights * np.diff(seconds[1 : 2 + longest]))
            else:
                passes = np.interp(rows + drafted, np.arange(len(seconds)), seconds)
            depths = np.maximum.accumulate(order // rows)
            reached = np.cumsum(drafts[:, :longest].max(axis=0))[depths]
            drafting = prices[0] + prices[1] * reached + prices[2] * drafted
            rates = (rows + np.cumsum(gains[order])) / (passes + drafting + self.overhead)
            top = int(np.argmax(rates))
            if rates[top] > best_rate:
                best_rate = float(rates[top])
                best = np.bincount(order[: top + 1] % rows, minlength=rows).tolist()
        return best

    def _learn_acceptance(self, outcome: Outcome) -> None:
        sequence = self._of(outcome.sequence)
        if not outcome.planned:
            sequence.idle += 1
            sequence.accepted.fade(IDLE_MEMORY)
            sequence.drafted.fade(IDLE_MEMORY)
            return
        for counts in (sequence.accepted, self._accepted):
            counts.add(outcome.planned, outcome.accepted)
        for counts in (sequence.drafted, self._drafted):
            counts.add(outcome.planned, outcome.drafted)
        sequence.idle = 0
        if sequence.probing:
            if outcome.accepted:
                sequence.idle = 2 * LONGEST_WAIT  # worth another look at once
            sequence.wait = min(2 * sequence.wait, LONGEST_WAIT)
            # Sequences to come start as patient as those before them had to become.
            self._first_wait = min(2 * self._first_wait, LONGEST_WAIT // 4)

    def _learn_times(self, outcomes: Sequence[Outcome], times: Times, steady: bool) -> None:
        drafted = [outcome.drafted for outcome in outcomes]
        self._rounds += 1
        step = max(OVERHEAD_STEP, 1 / self._rounds)
        self.overhead += step * (min(times.elsewhere, times.verification) - self.overhead)
        if steady and any(outcome.planned for outcome in outcomes):
            self.draft_cost.observe(max(drafted), sum(drafted), times.drafting)


def _longest_to_try(positions: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... up to `positions`, itself included."""
    steps = [length for power in range(positions.bit_length()) for length in (1 << power, 3 << power)]
    return sorted({length for length in steps if length < positions} | {positions})
