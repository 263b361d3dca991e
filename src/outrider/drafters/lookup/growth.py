"""How a tree of lookups grows: best first, one node at a time.

As in growth.py the node with the largest chance joins next, so a tree of n nodes has the n likeliest ones, and the tree
of a smaller budget is a beginning of it. Lookups are cheap and all of them are choices, no draws: a node's children are
looked up when it joins, by all sources, whoever proposed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Any

from outrider.drafters.lookup.calibration import Calibration
from outrider.drafters.lookup.mixture import Expected, expected
from outrider.drafters.lookup.source import CONTEXT, Context, Source
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft

LARGEST_SHARE = 0.98  # no token is certain


@dataclass(slots=True)
class Tree:
    """A tree of lookups.

    Attributes:
        tokens, parents, chances, proposers: of its nodes, in the order in which they joined.
        seen: what was expected after ROOT, and after each node whose children were looked up.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    chances: list[float] = field(default_factory=list)
    proposers: list[int] = field(default_factory=list)
    seen: dict[int, Expected] = field(default_factory=dict)

    def draft(self, count: int, source: str, names: Sequence[str]) -> Draft:
        """The first `count` nodes.

        Args:
            names: of the sources, joined by a plus, by the bits of `proposers`.
        """
        if not count:
            return EMPTY
        parents = self.parents[:count]
        chain = all(parent == node - 1 for node, parent in enumerate(parents))
        return Draft(
            tuple(self.tokens[:count]),
            None if chain else tuple(parents),
            source=source,
            sources=tuple([names[bits] for bits in self.proposers[:count]]),
            chances=tuple(self.chances[:count]),
        )


class Lookups:
    """Grows trees from sources.

    Args:
        least: nodes with a smaller chance stay out where nothing has a price.
        children: the most children of a node; 1 grows chains.
    """

    def __init__(self, sources: Sequence[Source], least: float, children: int) -> None:
        self._sources = sources
        self._least = least
        self._children = children

    def grow(self, cursors: Sequence[Any], context: Context, budget: Budget, calibration: Calibration) -> Tree:
        """The likeliest continuations of a text, as many as the budget buys.

        Args:
            cursors: where each source stands at the end of the text.
            context: its newest tokens.
        """
        tree = Tree()
        least = max(self._least if not budget.prices.totals else budget.prices.cheapest, 1e-4)
        places = {ROOT: (cursors, context, 0)}
        waiting: list[tuple[float, int, int, int, int]] = []  # -chance, order, parent, token, proposers
        order = 0
        node, chance = ROOT, 1.0
        while True:
            at, before, depth = places[node]
            if depth < budget.depth:
                known = tree.seen[node] = expected(self._sources, at, before)
                for share, token in self._best(known, calibration):
                    if chance * share < least:
                        break
                    order += 1
                    heappush(waiting, (-chance * share, order, node, token, known.proposers[token]))
            if not waiting or len(tree.tokens) == budget.nodes:
                return tree
            negative, _, parent, token, bits = heappop(waiting)
            node, chance = len(tree.tokens), -negative
            tree.tokens.append(token)
            tree.parents.append(parent)
            tree.chances.append(chance)
            tree.proposers.append(bits)
            _, before, depth = places[parent]
            after = tree.seen[parent].after(token, len(self._sources))
            places[node] = after, (*before, token)[-CONTEXT:], depth + 1
            if len(tree.tokens) == budget.nodes:
                return tree

    def _best(self, known: Expected, calibration: Calibration) -> list[tuple[float, int]]:
        """The likeliest children, likeliest first, with their calibrated shares."""
        evidence = known.evidence
        ranked = [(calibration.calibrated(share, evidence), token) for token, share in known.shares.items()]
        total = max(sum([share for share, _ in ranked]), 1.0)
        ranked.sort(key=lambda pair: -pair[0])
        return [(min(share / total, LARGEST_SHARE), token) for share, token in ranked[: self._children]]
