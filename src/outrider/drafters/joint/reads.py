"""Which nodes of a joint tree the head reads in a round, and what that costs."""

from __future__ import annotations

from outrider.drafters.joint.nodes import Nodes
from outrider.drafters.joint.terms import StepPrices
from outrider.maths.draft import ROOT

MOST_READ = 32  # nodes that the head reads in one round


class HeadReads:
    """What the head has read of one tree. The nodes above one that is asked about are read before it."""

    def __init__(self, tree: Nodes, prices: StepPrices) -> None:
        self._tree = tree
        self._prices = prices
        self._began = False
        self._read: set[int] = set()

    def missing(self, node: int) -> int:
        """How many nodes the head has to read before it can be asked about this one."""
        count = 0
        while node != ROOT and node not in self._read:
            count += 1
            node = self._tree.parents[node]
        return count

    def fits(self, node: int) -> bool:
        """Whether a question about the node stays within what may be read in one round."""
        return len(self._read) + self.missing(node) <= MOST_READ

    def price(self, node: int) -> float:
        """Of a question about the node, in tokens."""
        first = 0.0 if self._began else self._prices.first
        return first + self._prices.further * self.missing(node)

    def note(self, node: int) -> None:
        """The node is asked about now; the text itself is read first."""
        self._began = True
        while node != ROOT and node not in self._read:
            self._read.add(node)
            node = self._tree.parents[node]
