"""How a tree of candidates grows: the node most likely to be accepted first, until the budget is spent.

Every node has a worth, the estimated chance that it is accepted: its parent's times its own share. A budget of n buys
the n worthiest nodes, which form a tree, since no node is worth more than its parent; with another budget it would be
a beginning, or a continuation, of the same list. EAGLE-2 (arXiv 2406.16858, section 4) ranks nodes so by the draft
model's joint probability; that this is the tree with the most accepted tokens is what Sequoia (arXiv 2402.12374,
section 3) shows for worths that are right.

With drawn children this is exact because of what a worth may depend on. The share of a drawn child is estimated from
the distribution it is drawn from, before it is drawn: never from the token that came out. So the tree is what one gets
by drawing, again and again, the worthiest child not yet drawn: a node that falls out of the budget in the end, though a
draft model may have looked beyond it, was never drawn in that order, and nothing that is left depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.maths.arrays import Array, stack
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A node that may join the tree.

    Attributes:
        parent: its place among the candidates; ROOT for a child of the pending token.
        opened: the number of the distribution that it was drawn from, CHOSEN for a deterministic choice.
    """

    token: int
    parent: int
    depth: int
    worth: float
    opened: int


class Growth:
    """One tree while it grows, level by level.

    Args:
        budget: the most nodes, and the most levels.
        beam: of how many nodes on a level, the worthiest, children are looked for.
        least: nodes worth less stay out.
    """

    def __init__(self, budget: Budget, *, beam: int | None = None, least: float = 0.0) -> None:
        self._budget = budget
        self._beam = budget.nodes if beam is None else beam
        self._least = least
        self._candidates: list[_Candidate] = []
        self._distributions: list[Array] = []
        self._level = 0

    def open(self, node: int, tokens: Sequence[int], shares: Sequence[float], q: Array | None = None) -> range:
        """Add the children of a node, or of ROOT; returns their names.

        Args:
            node: as `next_level` names it.
            tokens: the children, in the order in which they were drawn or chosen.
            shares: the estimated chance of each to be accepted, given that the node is; falling.
            q: the distribution [vocab] from which they were drawn without replacement; None if they were chosen.
        """
        worth, depth = (1.0, 0) if node == ROOT else (self._candidates[node].worth, self._candidates[node].depth)
        opened = CHOSEN if q is None else len(self._distributions)
        if q is not None:
            self._distributions.append(q)
        before = worth
        for token, share in zip(tokens, shares, strict=True):
            before = min(before, worth * share)  # whatever rounding says, the parent and the earlier sibling come first
            self._candidates.append(_Candidate(token, node, depth + 1, before, opened))
        return range(len(self._candidates) - len(tokens), len(self._candidates))

    def next_level(self) -> list[int]:
        """The nodes whose children are wanted next, worthiest first; none where the tree is complete."""
        self._level += 1
        if self._level >= self._budget.depth:
            return []
        ranked = self._ranked()
        if len(ranked) == self._budget.nodes:
            ranked.pop()  # a child of the last one would be worth no more, and come after it
        return [node for node in ranked if self._candidates[node].depth == self._level][: self._beam]

    def node(self, node: int) -> tuple[int, int]:
        """Its token and its parent."""
        return self._candidates[node].token, self._candidates[node].parent

    def path(self, node: int) -> list[int]:
        """The tokens from the root's child to `node`."""
        tokens = []
        while node != ROOT:
            tokens.append(self._candidates[node].token)
            node = self._candidates[node].parent
        return tokens[::-1]

    def draft(self, source: str) -> Draft:
        """The tree as it stands, in the order in which its nodes joined it."""
        ranked = self._ranked()
        if not self._distributions:
            ranked = ranked[: self._budget.prices.worthwhile([self._candidates[node].worth for node in ranked])]
        if not ranked:
            return EMPTY
        place = {node: rank for rank, node in enumerate(ranked)} | {ROOT: ROOT}
        chosen = [self._candidates[node] for node in ranked]
        opened = sorted({candidate.opened for candidate in chosen} - {CHOSEN})
        row = {number: place for place, number in enumerate(opened)} | {CHOSEN: CHOSEN}
        rows = [self._distributions[number] for number in opened]
        return Draft(
            tuple(candidate.token for candidate in chosen),
            tuple(place[candidate.parent] for candidate in chosen),
            stack(rows) if rows else None,
            tuple(row[candidate.opened] for candidate in chosen) if rows else None,
            source,
            chances=tuple(candidate.worth for candidate in chosen),
        )

    def _ranked(self) -> list[int]:
        """The worthiest candidates, as many as the budget buys; at equal worth the one that was found first."""
        worthy = [node for node, candidate in enumerate(self._candidates) if candidate.worth >= self._least]
        ranked = sorted(worthy, key=lambda node: -self._candidates[node].worth)[: self._budget.nodes]
        if self._distributions:
            # Drawn one after the other: the first that does not pay is not drawn, nor is any after it.
            pays = (self._budget.prices.pays(place, self._candidates[node].worth) for place, node in enumerate(ranked))
            ranked = [node for node, paying in zip(ranked, pays, strict=True) if paying]
        return ranked
