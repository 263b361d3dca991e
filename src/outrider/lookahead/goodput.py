"""The lookahead that promises the most tokens per second, from measured times and observed acceptance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.arrays import HostFloats
from outrider.budget import Budget
from outrider.errors import SettingError
from outrider.lookahead.costs import CostCurve
from outrider.lookahead.draft_cost import DraftCost
from outrider.lookahead.policy import LookaheadPolicy, Outcome, Times
from outrider.lookahead.priced_goodput import PricedGoodput
from outrider.lookahead.survival import Counts, Own, Views, conditional
from outrider.lookahead.tree_goodput import TreeGoodput

FIRST_WAIT = 4  # plain rounds before the first probe
LONGEST_WAIT = 128
PROBE_SHARE = 0.005  # of all tokens, that probes may lose
HOPE = 0.5  # standard deviations by which acceptance may be better than what little was seen of it
COST_HOPE = 0.12  # by what share passes that were never run may be cheaper than expected
IDLE_MEMORY = 0.995  # of what a sequence knows, per plain round: the text may have changed
OVERHEAD_STEP = 0.05


class _Sequence:
    """What is known of one sequence.

    Attributes:
        expected: [views, positions], the chances of acceptance by which the coming round was planned.
        wait: plain rounds until the next probe, at the latest.
        idle: plain rounds since the last draft.
    """

    def __init__(self, positions: int, wait: int) -> None:
        self.accepted = Own(positions)
        self.drafted = Own(positions)
        self.expected: HostFloats | None = None
        self.wait = wait
        self.idle = 0
        self.probing = False


class Goodput(LookaheadPolicy):
    """Maximises expected emitted tokens per second, over all sequences of a round together.

    For sequence s, S_s(i) is the chance that its draft is accepted up to position i and D_s(i) the chance that its
    drafter goes so far at all. Lookaheads k_s emit sum_s (1 + sum_{i <= k_s} S_s(i)) tokens, in the time of drafting
    plus that of a forward pass over sum_s (1 + sum_{i <= k_s} D_s(i)) tokens plus everything else. Tokens are added in
    the order of their S, and the best quotient met on the way is taken; k = 0 competes like any other lookahead. S and
    D are what was counted of all sequences, moved to where each of them lies (see survival.py); times are measured (see
    costs.py and draft_cost.py). Passes of a size that was never run are hoped to be a little cheaper than expected,
    until they are tried.

    Where 0 wins, nothing is learned of acceptance any more. Such a sequence probes: it tries the lookahead that would
    lose least, sooner the less that is. After each try that did not change the verdict it waits twice as long.

    Args:
        max_lookahead: in tokens; the nodes of a tree, for which depth and number are chosen (see tree_goodput.py). A
            drafter that estimates the chances of its tokens is told their prices instead (see priced_goodput.py).
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
        self._accepted = Counts(max_lookahead)
        self._drafted = Counts(max_lookahead)
        self._views = Views()
        self._first_wait = FIRST_WAIT
        self._sequences: dict[Hashable, _Sequence] = {}
        self._drafted_last: set[Hashable] = set()
        self._of_trees = TreeGoodput(max_lookahead)
        self._of_estimates = PricedGoodput(max_lookahead)

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        known = [self._of(sequence) for sequence in sequences]
        views = conditional([sequence.accepted for sequence in known], self._accepted.chances())
        for place, sequence in enumerate(known):
            sequence.expected = views[:, place]
        survives = np.cumprod(views[self._views.best], axis=1)
        drafted = conditional([sequence.drafted for sequence in known], self._drafted.chances())
        drafts = np.maximum(np.cumprod(drafted[self._views.best], axis=1), survives)
        chosen, rate = self._best(survives, drafts)
        for sequence, lookahead in zip(known, chosen, strict=True):
            sequence.probing = False
            if lookahead:
                sequence.wait = self._first_wait = FIRST_WAIT
        if any(not lookahead and sequence.idle for lookahead, sequence in zip(chosen, known, strict=True)):
            self._probe(known, chosen, drafts, rate)
        return chosen

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        if self.costs is None:
            self.costs = CostCurve()
        if self.estimates:
            return self._of_estimates.budgets(sequences, self.costs)
        if self.trees:
            return self._of_trees.budgets(sequences, self.costs)
        return super().budgets(sequences)

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        if self.estimates:
            self._of_estimates.observe(outcomes, times)
            return
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
        self._of_estimates.forget(sequence)
        self._sequences.pop(sequence, None)
        self._drafted_last.discard(sequence)

    def expected(self, sequence: Hashable) -> HostFloats:
        """[max_lookahead]: the chance that a draft of this sequence is accepted up to each position."""
        views = conditional([self._of(sequence).accepted], self._accepted.chances())
        return np.asarray(np.cumprod(views[self._views.best, 0]))

    def _of(self, sequence: Hashable) -> _Sequence:
        if sequence not in self._sequences:
            self._sequences[sequence] = _Sequence(self.max_lookahead, self._first_wait)
        return self._sequences[sequence]

    def _probe(self, known: Sequence[_Sequence], chosen: list[int], drafts: HostFloats, rate: float) -> None:
        """Give those of the idle sequences a lookahead whose time has come."""
        hopes = conditional([sequence.accepted for sequence in known], self._accepted.chances(HOPE))
        hopes = np.cumprod(hopes[self._views.best], axis=1)
        for place, sequence in enumerate(known):
            if not chosen[place] and sequence.idle:
                losses = self._losses(drafts, chosen, place, rate) - np.cumsum(hopes[place])
                least = int(np.argmin(losses))
                if sequence.idle >= min(sequence.wait, losses[least] / PROBE_SHARE):
                    sequence.probing = True
                    chosen[place] = least + 1

    def _losses(self, drafts: HostFloats, chosen: Sequence[int], place: int, rate: float) -> HostFloats:
        """[positions]: tokens that the others could emit in the time that this sequence's draft would add."""
        rows, positions = drafts.shape
        seconds = self._seconds(rows, positions)
        call, position, token = self.draft_cost.prices
        others = rows + sum(float(drafts[other, :lookahead].sum()) for other, lookahead in enumerate(chosen))
        longest = max(chosen)
        drafted = np.cumsum(drafts[place])
        table = np.arange(len(seconds))
        added = np.interp(others + drafted, table, seconds) - np.interp(others, table, seconds)
        deeper = np.maximum(np.arange(1, positions + 1) - longest, 0)
        return np.asarray((added + token * drafted + position * deeper + (0.0 if longest else call)) * rate)

    def _seconds(self, rows: int, positions: int) -> HostFloats:
        """Of passes over up to 1 + positions tokens of each row."""
        if self.costs is None:
            self.costs = CostCurve()
        return self.costs.table(rows, rows * (1 + positions), hope=COST_HOPE)

    def _best(self, survives: HostFloats, drafts: HostFloats) -> tuple[list[int], float]:
        """The lookahead of each sequence, and the tokens per second that they promise together.

        Args:
            survives, drafts: S and D, [sequences, positions].
        """
        rows, positions = survives.shape
        seconds = self._seconds(rows, positions)
        prices = self.draft_cost.prices
        best_rate, best = float(rows / (seconds[rows] + self.overhead)), [0] * rows
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
        return best, best_rate

    def _learn_acceptance(self, outcome: Outcome) -> None:
        sequence = self._of(outcome.sequence)
        if not outcome.planned:
            sequence.idle += 1
            sequence.accepted.fade(IDLE_MEMORY)
            sequence.drafted.fade(IDLE_MEMORY)
            return
        if sequence.expected is not None:
            self._views.learn(sequence.expected, outcome.planned, outcome.accepted)
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
