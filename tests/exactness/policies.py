"""Lookahead policies for the tests."""

from collections.abc import Hashable, Sequence
from itertools import cycle

from outrider import Budget, LookaheadPolicy
from outrider.maths.budget import Prices


class Sometimes(LookaheadPolicy):
    """A policy that skips rounds."""

    def __init__(self) -> None:
        self.plans = cycle((3, 0, 2, 0, 0, 4))

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        return [next(self.plans) for _ in sequences]


class Priced(LookaheadPolicy):
    """What drafts cost changes from round to round, whatever they are."""

    def __init__(self, *prices: tuple[float, ...]) -> None:
        self._prices = cycle(map(Prices, prices))

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        return [budget.nodes for budget in self.budgets(sequences)]

    def budgets(self, sequences: Sequence[Hashable]) -> list[Budget]:
        return [Budget(4, 4, next(self._prices)) for _ in sequences]
