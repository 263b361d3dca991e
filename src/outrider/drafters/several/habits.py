"""The acceptance of one of several drafters' drafts: for drafters without estimates, and to correct wrong ones."""

from __future__ import annotations

from itertools import accumulate
from operator import mul

from outrider.lookahead.goodput.counts import PositionCounts
from outrider.lookahead.goodput.share import Share
from outrider.maths.draft import Draft

POSITIONS = 32  # levels that are told apart
NEXT_SIBLING = 0.3  # a guess of the chance of each further sibling, compared with the one before it
MEMORY = 0.99  # EMA decay, per draft


class Habit:
    """What became of a drafter's drafts so far."""

    def __init__(self) -> None:
        self._levels = PositionCounts(POSITIONS)
        self._share = Share(MEMORY)

    def chances(self, draft: Draft) -> list[float]:
        """Of each token of a draft to be accepted, from what the drafter says and what became of earlier drafts.

        Known before the tokens were drawn, where a drafter draws.
        """
        if draft.chances is not None:
            factor = self._share.factor
            return [min(chance * factor, 1.0) for chance in draft.chances]
        passing = self._levels.chances()
        depths = draft.depths
        chances: list[float] = []
        siblings: dict[int, int] = {}
        for node, depth in enumerate(depths):
            parent = draft.parent(node)
            rank = siblings[parent] = siblings.get(parent, -1) + 1
            above = 1.0 if parent < 0 else chances[parent]
            chances.append(above * passing[min(depth, POSITIONS) - 1] * NEXT_SIBLING**rank)
        return chances

    def chain(self, longest: int) -> list[float]:
        """The same for each token of a chain, by what became of earlier drafts alone."""
        passing = self._levels.chances()
        return list(accumulate([passing[min(level, POSITIONS - 1)] for level in range(longest)], mul))

    def learn(self, draft: Draft, accepted: int) -> None:
        """Learn from a draft, of which a path of so many tokens was accepted."""
        if draft.chances is not None:
            self._share.add(accepted, sum(draft.chances))
        else:
            self._levels.add(max(draft.depths, default=0), accepted)
