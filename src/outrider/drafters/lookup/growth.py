"""How a tree of lookups grows: best first, one node at a time.

As in growth.py the node with the largest chance joins next, so a tree of n nodes has the n likeliest ones, and the tree
of a smaller budget is a beginning of it. Lookups are cheap and all of them are choices, no draws: a node's children are
looked up when it joins, by all sources, whoever proposed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush, heappushpop
from typing import Any, NamedTuple

from outrider.drafters.growth import LARGEST_SHARE
from outrider.drafters.lookup.calibration import MOST, Calibration
from outrider.drafters.lookup.mixture import Expected, expected
from outrider.drafters.lookup.source import CONTEXT, Context, Source
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft

TINY = 1e-4  # a chance that no price is worth


class Terms(NamedTuple):
    """In whose name a tree is drafted.

    Attributes:
        source: the drafter's name.
        names: of the sources, joined by a plus, by the bits of those that proposed a token.
        experience: of the draft.
    """

    source: str
    names: list[str]
    experience: tuple[int, ...] = ()


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

    def teach(self, calibration: Calibration, path: Sequence[int], came: Sequence[int]) -> None:
        """Learn from a verdict.

        Args:
            path: the accepted nodes.
            came: what came after the root and after each of these, as far as it is known.
        """
        for node, token in zip((ROOT, *path), came, strict=False):
            known = self.seen.get(node)
            if known is None:
                return
            calibration.learn(known.shares, known.evidence, token)

    def draft(self, count: int, source: str, names: Sequence[str], experience: tuple[int, ...] = ()) -> Draft:
        """The first `count` nodes.

        Args:
            names: of the sources, joined by a plus, by the bits of `proposers`.
            experience: of the draft.
        """
        if not count:
            return EMPTY.knowing(experience)  # an empty draft depends on what was learned as well
        parents = self.parents[:count]
        chain = all(parent == node - 1 for node, parent in enumerate(parents))
        return Draft(
            tuple(self.tokens[:count]),
            None if chain else tuple(parents),
            source=source,
            sources=tuple([names[bits] for bits in self.proposers[:count]]),
            chances=tuple(self.chances[:count]),
            experience=experience,
        )


class Lookups:
    """Grows trees from sources.

    Args:
        least: nodes with a smaller chance stay out where nothing has a price.
        children: the most children of a node; 1 grows chains.
    """

    def __init__(self, sources: Sequence[Source], least: float, children: int) -> None:
        self.sources = sources
        self._least = least
        self._children = children

    def calibration(self) -> Calibration:
        """One that has learned nothing yet."""
        return Calibration()

    def drafted(
        self, cursors: Sequence[Any], context: Context, budget: Budget, calibration: Calibration, terms: Terms
    ) -> tuple[Draft, Tree]:
        """What to draft, and the tree that it was cut from; arguments as `grow`."""
        tree = self.grow(cursors, context, budget, calibration)
        return tree.draft(budget.prices.worthwhile(tree.chances), *terms), tree

    def grow(self, cursors: Sequence[Any], context: Context, budget: Budget, calibration: Calibration) -> Tree:
        """The likeliest continuations of a text, as many as the budget buys.

        Args:
            cursors: where each source stands at the end of the text.
            context: its newest tokens.
        """
        tree = Tree()
        floor = _Floor(budget.nodes, max(budget.prices.cheapest if budget.prices.totals else self._least, TINY))
        places = {ROOT: (cursors, context, 0)}
        waiting: list[tuple[float, int, int, int, int]] = []  # -chance, order, parent, token, proposers
        order = 0
        node, chance = ROOT, 1.0
        while True:
            at, before, depth = places[node]
            if depth < budget.depth and chance * LARGEST_SHARE >= floor.chance:
                known = tree.seen[node] = expected(self.sources, at, before)
                for share, token in self._best(known, calibration, floor.chance / chance):
                    order += 1
                    heappush(waiting, (-chance * share, order, node, token, known.proposers[token]))
                    floor.add(chance * share)
            if not waiting or budget.prices.ends(len(tree.tokens), -waiting[0][0]):
                return tree
            negative, _, parent, token, bits = heappop(waiting)
            node, chance = len(tree.tokens), -negative
            tree.tokens.append(token)
            tree.parents.append(parent)
            tree.chances.append(chance)
            tree.proposers.append(bits)
            if len(tree.tokens) == budget.nodes:
                return tree
            _, before, depth = places[parent]
            after = tree.seen[parent].after(token)
            places[node] = after, (*before, token)[-CONTEXT:], depth + 1

    def _best(self, known: Expected, calibration: Calibration, least: float) -> list[tuple[float, int]]:
        """The likeliest children, likeliest first, with their calibrated shares; none below `least`."""
        calibrated, evidence = calibration.calibrated, known.evidence
        # No factor can lift the others.
        likely = [(token, estimate) for token, estimate in known.shares.items() if estimate * MOST >= least]
        corrected = [(calibrated(estimate, evidence), token) for token, estimate in likely]
        ranked = [pair for pair in corrected if pair[0] >= least]
        ranked.sort(key=_first)
        return ranked[: -self._children - 1 : -1]


def _first(pair: tuple[float, int]) -> float:
    return pair[0]


class _Floor:
    """The chance that a node needs to join: a tree of n nodes has no room for one that n others surpass.

    Args:
        nodes: of the tree.
        least: the floor at the beginning.

    Attributes:
        chance: the floor at present.
    """

    def __init__(self, nodes: int, least: float) -> None:
        self._nodes = nodes
        self._best: list[float] = []  # a heap of the largest chances so far
        self.chance = least

    def add(self, chance: float) -> None:
        """A node of this chance may join."""
        if len(self._best) < self._nodes:
            heappush(self._best, chance)
            if len(self._best) < self._nodes:
                return
        else:
            heappushpop(self._best, chance)
        self.chance = max(self.chance, self._best[0])
