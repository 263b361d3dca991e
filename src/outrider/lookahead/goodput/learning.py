"""What every Goodput policy learns from rounds: what drafting costs, and what a round takes besides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

from outrider.lookahead.costs.drafting import DraftCost
from outrider.lookahead.costs.running_mean import RunningMean
from outrider.lookahead.policy import Outcome, Times

State = TypeVar("State")


class Learner(ABC, Generic[State]):
    """The base of the Goodput policies: they share what they learn from times, and differ in how acceptance is counted.

    Args:
        new_state: makes what a policy knows about one sequence, before its first round.

    Attributes:
        draft_cost: the seconds of drafting.
        overhead: the seconds that a round takes besides drafting and the target's pass.
    """

    def __init__(self, new_state: Callable[[], State]) -> None:
        self.draft_cost = DraftCost()
        self.overhead = RunningMean()
        self._sequences = defaultdict[Hashable, State](new_state)
        self._drafted_last: set[Hashable] = set()

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        """Learn from a round; arguments as for LookaheadPolicy.observe."""
        self._learn_acceptance(outcomes)
        drafting = {outcome.sequence for outcome in outcomes if outcome.planned}
        if times is not None:
            self._learn_overhead(outcomes, times)
            # After a pause a draft model first catches up with the text. That time is no price of the draft.
            if drafting and drafting <= self._drafted_last:
                self._learn_draft_cost(outcomes, times)
        self._drafted_last = drafting

    def forget(self, sequence: Hashable) -> None:
        """The sequence has ended."""
        self._sequences.pop(sequence, None)
        self._drafted_last.discard(sequence)

    @abstractmethod
    def _learn_acceptance(self, outcomes: Sequence[Outcome]) -> None: ...

    def _learn_overhead(self, outcomes: Sequence[Outcome], times: Times) -> None:
        self.overhead.add(times.overhead)

    def _learn_draft_cost(self, outcomes: Sequence[Outcome], times: Times) -> None:
        longest = max([outcome.longest for outcome in outcomes])
        self.draft_cost.observe(longest, sum([outcome.drafted for outcome in outcomes]), times.drafting)
