"""How often nodes of trees were accepted, by rank and bound on the depth."""

from __future__ import annotations

import numpy as np

from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats
from outrider.maths.budget import USUAL_DRAFT

FIRST_GUESS = 0.75  # the chance of the first node, before the first tree
NEXT_GUESS = 0.75  # the chance of a node, relative to that of the node before it
PRIOR = 2.0  # pseudo-counts: trees that these guesses are worth
MEMORY = 0.995  # EMA decay, per tree


class TreeCounts:
    """Counts accepted nodes of trees that grow best node first; old trees fade (EMA).

    The first nodes of such a tree are the trees of all smaller budgets. Without its lower levels it is the tree of a
    smaller depth. So one round tells what every smaller tree would have had accepted.

    Args:
        limits: the bounds on the depth that are told apart, in rising order.
        nodes: the largest budget.
    """

    def __init__(self, limits: tuple[int, ...], nodes: int) -> None:
        self.limits = limits
        self._tried = np.zeros((len(limits), nodes))
        self._drafted = np.zeros((len(limits), nodes))
        self._accepted = np.zeros((len(limits), nodes))
        self._levels = np.zeros((len(limits), nodes))
        self._blocks = np.array(_blocks(nodes))  # the first rank of each
        self._chances: HostFloats | None = None

    def add(self, outcome: Outcome) -> None:
        """Learn from a draft of at least one allowed token."""
        self._chances = None
        depths = np.array(outcome.depths or range(1, outcome.drafted + 1), dtype=np.int64)
        accepted = np.isin(np.arange(len(depths)), outcome.path)
        reached = depths.max(initial=0)
        bounded = outcome.levels <= reached and outcome.levels < outcome.planned
        bound = outcome.levels if bounded else self.limits[-1]
        most = self._tried.shape[1]
        for place, limit in enumerate(self.limits):
            if limit > bound:
                break
            within = depths <= limit
            count = min(int(within.sum()), most)
            # A drafter that stopped by itself would also have stopped under a larger budget.
            told = count if outcome.drafted == outcome.planned else min(max(outcome.planned, count), most)
            for counts in (self._tried, self._drafted, self._accepted, self._levels):
                counts[place, :told] *= MEMORY
            self._tried[place, :told] += 1
            self._drafted[place, :count] += 1
            self._accepted[place, :count] += accepted[within][:count]
            self._levels[place, :count] += np.maximum.accumulate(depths[within])[:count]

    def chances(self) -> HostFloats:
        """[limits, nodes]: the chance that the node of each rank is accepted, at most that of the rank before."""
        if self._chances is None:
            self._chances = self._estimate()
        return self._chances

    def _estimate(self) -> HostFloats:
        tried = np.add.reduceat(self._tried, self._blocks, axis=1)
        accepted = np.add.reduceat(self._accepted, self._blocks, axis=1)
        chances = np.empty_like(tried)
        before = np.full(len(self.limits), FIRST_GUESS / NEXT_GUESS)
        for block, rank in enumerate(self._blocks):
            # Far nodes are many and much alike: their chances fall as 1 / rank. A steady share would rule out wide
            # trees before the first one is tried.
            guess = (NEXT_GUESS if rank < USUAL_DRAFT else self._blocks[block - 1] / rank) * before
            estimate = (accepted[:, block] + PRIOR * guess) / (tried[:, block] + PRIOR)
            chances[:, block] = estimate
            before = np.minimum(before, estimate)
        if len(self._blocks) == self._tried.shape[1]:
            return np.minimum.accumulate(chances, axis=1)
        sizes = np.diff(self._blocks, append=self._tried.shape[1])
        return np.repeat(
            [_falling(row, weights) for row, weights in zip(chances, tried + PRIOR, strict=True)], sizes, 1
        )

    def sizes(self) -> HostFloats:
        """[limits, nodes]: the chance that the drafter drafts a node of each rank."""
        sizes: HostFloats = (self._drafted + PRIOR) / (self._tried + PRIOR)
        return np.asarray(np.minimum.accumulate(sizes, axis=1))

    def levels(self) -> HostFloats:
        """[limits, nodes]: how many levels the nodes up to each rank take, on average."""
        guess = np.minimum(np.arange(1, self._tried.shape[1] + 1)[None, :], np.array(self.limits)[:, None])
        levels: HostFloats = (self._levels + PRIOR * guess) / (self._drafted + PRIOR)
        return levels


def _blocks(nodes: int) -> list[int]:
    """Ranks that share an estimate: each its own in usual trees; in wide ones 1, 2, 3, 4, 6, 8, 12, 16, 24 ..., since
    the nodes of a wide tree are accepted too seldom to be told apart."""
    if nodes <= USUAL_DRAFT:
        return list(range(nodes))
    starts = [start for power in range(1, nodes.bit_length()) for start in (1 << power, 3 << (power - 1))]
    return [0, 1, *(start for start in starts if start < nodes)]


def _falling(chances: HostFloats, weights: HostFloats) -> list[float]:
    """The falling numbers nearest to these (isotonic regression, by pooling adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight and how many
    for chance, weight in zip(chances.tolist(), weights.tolist(), strict=True):
        pool = (chance, weight, 1)
        while pools and pools[-1][0] < pool[0]:
            mean, other, count = pools.pop()
            total = other + pool[1]
            pool = ((mean * other + pool[0] * pool[1]) / total, total, count + pool[2])
        pools.append(pool)
    return [mean for mean, _, count in pools for _ in range(count)]
