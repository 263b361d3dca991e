"""How much may be drafted, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

USUAL_DRAFT = 16  # the most tokens of a draft, where nobody says


@dataclass(frozen=True)
class Prices:
    """What a draft costs, in tokens: as many as the engine emits in the same time.

    Attributes:
        totals: [1 + most], of drafts of 0, 1, ... `most` tokens; longer ones are not drafted. Empty where drafts cost
            nothing.
        rate: tokens in a second of drafting, for drafters that weigh what they gain against their own time.
    """

    totals: tuple[float, ...] = ()
    rate: float = 0.0

    def worthwhile(self, chances: Sequence[float]) -> int:
        """How many of these tokens to draft for the largest expected gain minus cost.

        All tokens are looked at before any is left out, so they must have been chosen deterministically.

        Args:
            chances: the probability of each token to be accepted, in the order in which they join the draft.
        """
        if not self.totals:
            return len(chances)
        count, most, gain = 0, 0.0, 0.0
        for drafted, (chance, total) in enumerate(zip(chances, self.totals[1:], strict=False), start=1):
            gain += chance
            if gain - total > most:
                count, most = drafted, gain - total
        return count

    def pays(self, place: int, chance: float) -> bool:
        """Whether to draft one more token: the one with this index, which is accepted with probability `chance`.

        The decision depends neither on that token nor on later ones, so the token may be drawn after it.
        """
        return not self.totals or (place < len(self._steps) and chance > self._steps[place])

    def ends(self, count: int, chance: float) -> bool:
        """Whether `worthwhile` takes none of the tokens that follow `count` others, if none has a larger chance.

        Chances fall and slopes rise: where the first token of a slope does not pay for it, no further one does. Within
        a slope the end of it may still be the best place.
        """
        if not self.totals:
            return False
        steps = self._steps
        return count >= len(steps) or (chance <= steps[count] and (count == 0 or steps[count] > steps[count - 1]))

    def scaled(self, factor: float) -> Prices:
        """The same prices in another unit, such as tokens for seconds."""
        prices = Prices(tuple([total * factor for total in self.totals]), self.rate * factor)
        prices.__dict__["_steps"] = tuple([step * factor for step in self._steps])  # their envelope takes long to find
        return prices

    def beyond(self, count: int) -> Prices:
        """The prices of further tokens, where so many are drafted already."""
        if not self.totals:
            return self
        start = min(count, len(self.totals) - 1)
        return Prices(tuple([total - self.totals[start] for total in self.totals[start:]]), self.rate)

    def next(self, count: int) -> float:
        """What one more token costs, where so many are drafted already; infinite where it is one too many."""
        if not self.totals:
            return 0.0
        return self._steps[count] if count < len(self._steps) else math.inf

    @property
    def cheapest(self) -> float:
        """The least that drafts cost for each of their tokens; 0 where they cost nothing.

        A token that is accepted less often pays only where a step in the cost leaves room for it.
        """
        return max(self._steps[0], 0.0) if self._steps else 0.0

    @cached_property
    def _steps(self) -> tuple[float, ...]:
        """[most], what each token adds to the cost: the slopes of the lower convex envelope of `totals`.

        A step in the cost is shared by the tokens that lead up to it. The slopes rise and chances fall, so the first
        token that does not pay is the place to stop.
        """
        steps: list[float] = []
        while len(steps) < len(self.totals) - 1:
            start = len(steps)
            ends = range(start + 1, len(self.totals))
            slope, end = min(((self.totals[end] - self.totals[start]) / (end - start), end) for end in ends)
            steps += [slope] * (end - start)
        return tuple(steps)


FREE = Prices()


class Budget(NamedTuple):
    """How large a draft may be.

    Attributes:
        nodes: the most tokens.
        depth: the most tokens on a path. A chain has as many nodes as it is deep.
        prices: for drafters that estimate how far their drafts are accepted.
    """

    nodes: int
    depth: int
    prices: Prices = FREE

    @property
    def longest(self) -> int:
        """The most tokens of a chain."""
        return min(self.nodes, self.depth)


NO_BUDGET = Budget(0, 0)
