"""Goodput: the policy for every drafter, which leaves the work to the one that suits how the drafter drafts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from outrider.errors import SettingError, shown
from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.goodput.chains import ChainGoodput
from outrider.lookahead.goodput.priced import PricedGoodput
from outrider.lookahead.goodput.trees import TreeGoodput
from outrider.lookahead.policy import DraftingTraits, LookaheadPolicy, Outcome, Times
from outrider.maths.arrays import HostFloats
from outrider.maths.budget import USUAL_DRAFT, Budget
from outrider.values import whole


class Goodput(LookaheadPolicy):
    """Maximises expected emitted tokens per second, over all sequences of a round together.

    Acceptance is estimated from earlier rounds, times are measured. A lookahead of 0, plain decoding, competes like any
    other. Where it wins, a sequence explores with exponential back-off: it drafts now and then, ever more rarely, to
    see whether drafts have begun to pay.

    `bind` chooses how to plan. Chains get a length each (ChainGoodput), trees a number of nodes and a depth
    (TreeGoodput). A drafter that estimates the chances of its own tokens gets their prices and decides (PricedGoodput).

    Args:
        max_lookahead: the most tokens of a draft; the most nodes of a tree.
        costs: what passes of the target cost; None has the engine measure it when it opens.

    Raises:
        SettingError: max_lookahead is below 1.
    """

    wants_costs = True

    def __init__(self, max_lookahead: int = USUAL_DRAFT, *, costs: CostCurve | None = None) -> None:
        self.max_lookahead = max_lookahead = whole("max_lookahead", max_lookahead, 1)
        if costs is not None and not isinstance(costs, CostCurve):
            raise SettingError(f"costs is {shown(costs)}: give a CostCurve, or None")
        self.costs = costs
        self._curve = costs or CostCurve()  # a guess, until an engine binds a measured one
        self._chains = ChainGoodput(max_lookahead)
        self._trees = TreeGoodput(max_lookahead)
        self._priced = PricedGoodput(max_lookahead)
        self._bound: ChainGoodput | TreeGoodput | PricedGoodput = self._chains

    @property
    def most(self) -> int:
        return self.max_lookahead

    def bind(self, drafting: DraftingTraits, costs: CostCurve) -> None:
        super().bind(drafting, costs)
        self._curve = costs
        self._bound = self._priced if drafting.estimates else self._trees if drafting.trees else self._chains

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        """The length of each sequence's chain; 0 decodes plainly."""
        return self._chains.plan(sequences, self._curve)

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        if isinstance(self._bound, ChainGoodput):
            return super().budgets(sequences)  # calls `plan`, so that a subclass may override only that
        return self._bound.budgets(sequences, self._curve)

    def observe(self, outcomes: Sequence[Outcome], times: Times | None) -> None:
        self._bound.observe(outcomes, times)

    def forget(self, sequence: Hashable) -> None:
        for each in (self._chains, self._trees, self._priced):
            each.forget(sequence)

    def expected(self, sequence: Hashable) -> HostFloats:
        """[max_lookahead]: the chance that a chain of this sequence is accepted up to each position."""
        return self._chains.expected(sequence)

    def explores(self, sequence: Hashable) -> bool:
        """Whether the chain planned for this sequence is a probe: plain decoding promises more, but drafts may have
        become better."""
        return self._chains.explores(sequence)
