"""The lookahead that promises the most tokens per second, from measured times and observed acceptance."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from outrider.errors import SettingError
from outrider.lookahead.costs.drafting import DraftCost
from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.lookahead.goodput.best_stop import best_stop
from outrider.lookahead.goodput.priced import PricedGoodput
from outrider.lookahead.goodput.probing import Patience, Probing
from outrider.lookahead.goodput.survival import Survival
from outrider.lookahead.goodput.trees import TreeGoodput
from outrider.lookahead.policy import LookaheadPolicy, Outcome, Times
from outrider.maths.arrays import HostFloats
from outrider.maths.budget import Budget

LONGEST_WAIT = 128  # plain rounds between two probes
PROBE_SHARE = 0.005  # of all tokens, that probes may lose
HOPE = 0.5  # standard deviations by which acceptance may be better than what little was seen of it
COST_HOPE = 0.12  # by what share passes that were never run may be cheaper than expected


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
        self.overhead = RunningMean()
        self._survival = Survival(max_lookahead)
        self._longest = np.array(_longest_to_try(max_lookahead))
        self._patience = Patience(LONGEST_WAIT)
        self._probing: dict[Hashable, Probing] = {}
        self._drafted_last: set[Hashable] = set()
        self._of_trees = TreeGoodput(max_lookahead)
        self._of_estimates = PricedGoodput(max_lookahead)

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        survives, drafts = self._survival.foretell(sequences)
        chosen, rate = self._best(survives, drafts)
        probing = [self._probing_of(sequence) for sequence in sequences]
        for each, lookahead in zip(probing, chosen, strict=True):
            each.plan(pays=lookahead > 0)
        if any(not lookahead and each.idle for lookahead, each in zip(chosen, probing, strict=True)):
            self._probe(sequences, probing, chosen, drafts, rate)
        return chosen

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        if self.costs is None:
            self.costs = CostCurve()
        if self.drafting.estimates:
            return self._of_estimates.budgets(sequences, self.costs)
        if self.drafting.trees:
            return self._of_trees.budgets(sequences, self.costs)
        return super().budgets(sequences)

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        if self.drafting.estimates:
            self._of_estimates.observe(outcomes, times)
            return
        if self.drafting.trees:
            self._of_trees.observe(outcomes, times)
            return
        self._survival.learn(outcomes)
        for outcome in outcomes:
            self._probing_of(outcome.sequence).learn(outcome.planned > 0, outcome.accepted)
        drafting = {outcome.sequence for outcome in outcomes if outcome.planned}
        if times is not None:
            self.overhead.add(times.overhead)
            # A drafter that was left out for a while catches up first: that is no price of its tokens.
            if drafting and drafting <= self._drafted_last:
                drafted = [outcome.drafted for outcome in outcomes]
                self.draft_cost.observe(max(drafted), sum(drafted), times.drafting)
        self._drafted_last = drafting

    def forget(self, sequence: Hashable) -> None:
        self._of_trees.forget(sequence)
        self._of_estimates.forget(sequence)
        self._survival.forget(sequence)
        self._probing.pop(sequence, None)
        self._drafted_last.discard(sequence)

    def expected(self, sequence: Hashable) -> HostFloats:
        """[max_lookahead]: the chance that a draft of this sequence is accepted up to each position."""
        return np.asarray(self._survival.accepted([sequence])[0])

    def _probing_of(self, sequence: Hashable) -> Probing:
        if sequence not in self._probing:
            self._probing[sequence] = Probing(self._patience)
        return self._probing[sequence]

    def _probe(
        self,
        sequences: Sequence[Hashable],
        probing: Sequence[Probing],
        chosen: list[int],
        drafts: HostFloats,
        rate: float,
    ) -> None:
        """Give those of the idle sequences a lookahead whose time has come."""
        hopes = self._survival.accepted(sequences, HOPE).cumsum(axis=1)
        losses = self._losses(drafts, chosen, rate) - hopes
        for place, each in enumerate(probing):
            if not chosen[place] and each.idle:
                least = int(losses[place].argmin())
                if each.idle >= min(each.wait, losses[place, least] / PROBE_SHARE):
                    each.now = True
                    chosen[place] = least + 1
                    losses = self._losses(drafts, chosen, rate) - hopes  # beside a draft another one is cheaper

    def _losses(self, drafts: HostFloats, chosen: Sequence[int], rate: float) -> HostFloats:
        """[sequences, positions]: tokens that the others could emit in the time that a sequence's draft would add."""
        rows, positions = drafts.shape
        seconds = self._seconds(rows, positions)
        call, position, token = self.draft_cost.prices
        longest = max(chosen)
        others = rows + float(drafts[np.arange(positions) < np.array(chosen)[:, None]].sum())
        drafted = drafts.cumsum(axis=1)
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
        call, position, token = self.draft_cost.prices
        if rows == 1:
            gains, drafted = survives, drafts.cumsum(axis=1)
            passes = seconds[1] + np.cumsum(drafts * np.diff(seconds[1 : 2 + positions]), axis=1)
            reached = drafted
        else:
            # Position by position, so that at equal chances an earlier position comes first.
            order = np.argsort(-survives.T.ravel(), kind="stable")
            depths = order // rows
            # The longest draft sets how many passes a draft model makes, so that several longest ones are tried.
            within = depths < self._longest[:, None]
            gains = survives.T.ravel()[order] * within
            drafted = np.cumsum(drafts.T.ravel()[order] * within, axis=1)
            passes = np.interp(rows + drafted, np.arange(len(seconds)), seconds)
            reached = drafts.max(axis=0).cumsum()[np.maximum.accumulate(depths * within, axis=1)]
        plain = float(rows / (seconds[rows] + self.overhead.value))
        drafting = call + position * reached + token * drafted
        way, last, rate = best_stop(rows, gains, drafting, passes, self.overhead.value)
        if rate <= plain:
            return [0] * rows, plain
        if rows == 1:
            return [last + 1], rate
        taken = order[: last + 1][within[way, : last + 1]]
        return np.bincount(taken % rows, minlength=rows).tolist(), rate


def _longest_to_try(positions: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... up to `positions`, itself included."""
    steps = [length for power in range(positions.bit_length()) for length in (1 << power, 3 << power)]
    return sorted({length for length in steps if length < positions} | {positions})
