"""How a tree of candidates grows: a best-first search for the nodes most likely to be accepted, within a budget.

Every node has a *chance*: the estimated probability that it is accepted. It is the product of the *shares* on its path;
a share is the estimated probability of a child to be accepted if its parent is. A budget of n buys the n nodes with
the largest chances. They form a tree, since no chance exceeds that of the parent; and the tree of a smaller budget is a
beginning of that of a larger one. EAGLE-2 (arXiv 2406.16858, section 4) ranks nodes so by the draft model's joint
probability; Sequoia (arXiv 2402.12374, section 3) shows that this is the tree with the most accepted tokens if the
chances are right.

For drawn children this is exact because the share of a child is estimated from the distribution that it is drawn from,
before the draw, never from the token that came out. So the tree is the one that results from drawing, again and again,
the child with the largest chance that was not drawn yet. A node beyond the budget comes later in this order
than all nodes of the tree, so none of them depends on it, even where the draft model has read on beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.maths.arrays import Array, stack
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft

LARGEST_SHARE = 0.98  # of what was looked up: no token is certain


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A node that may join the tree.

    Attributes:
        parent: its index among the candidates; ROOT for a child of the pending token.
        q_index: of the distribution that it was drawn from; CHOSEN for a deterministic choice.
    """

    token: int
    parent: int
    depth: int
    chance: float
    q_index: int


class Growth:
    """One tree while it grows, level by level. A node's name is its index among all candidates.

    Args:
        budget: the most nodes, and the most levels.
        beam: how many nodes of a level, those with the largest chances, may have children.
        least: nodes with a smaller chance stay out.
    """

    def __init__(self, budget: Budget, *, beam: int | None = None, least: float = 0.0) -> None:
        self._budget = budget
        self._beam = budget.nodes if beam is None else beam
        self._least = least
        self._candidates: list[_Candidate] = []
        self._distributions: list[Array] = []
        self._drawn = False
        self._level = 0

    def open(self, node: int, tokens: Sequence[int], shares: Sequence[float], q: Array | None = None) -> range:
        """Add the children of a node, or of ROOT; returns their names.

        Args:
            node: as `next_level` names it.
            tokens: the children, in the order in which they were drawn or chosen.
            shares: of each child, falling.
            q: the distribution [vocab] from which they were drawn without replacement; None if they were chosen.
        """
        q_index = CHOSEN if q is None else len(self._distributions)
        if q is not None:
            self._distributions.append(q)
        return self.open_from(node, tokens, shares, q_index)

    def open_from(self, node: int, tokens: Sequence[int], shares: Sequence[float], q_index: int) -> range:
        """The same with the number of their distribution among those that `draft` is given; CHOSEN if there is none."""
        self._drawn |= q_index != CHOSEN
        above, depth = (1.0, 0) if node == ROOT else (self._candidates[node].chance, self._candidates[node].depth)
        chance = above
        for token, share in zip(tokens, shares, strict=True):
            chance = min(chance, above * share)  # a parent and earlier siblings come first, rounding included
            self._candidates.append(_Candidate(token, node, depth + 1, chance, q_index))
        return range(len(self._candidates) - len(tokens), len(self._candidates))

    def next_level(self) -> list[int]:
        """The nodes whose children are wanted next, largest chance first; none where the tree is complete."""
        self._level += 1
        if self._level >= self._budget.depth:
            return []
        ranked = self._ranked()
        if len(ranked) == self._budget.nodes:
            ranked.pop()  # no child of the last one has a larger chance, so none would stay
        return [node for node in ranked if self._candidates[node].depth == self._level][: self._beam]

    @property
    def longest(self) -> int:
        """The most levels that the budget buys."""
        return self._budget.longest

    @property
    def most(self) -> int:
        """The most nodes."""
        return self._budget.nodes

    @property
    def least(self) -> float:
        """Nodes with a smaller chance stay out."""
        return self._least

    @property
    def steps(self) -> tuple[float, ...]:
        """What each further node has to be worth; empty where nodes cost nothing."""
        prices = self._budget.prices
        return tuple(prices.next(count) for count in range(self.most)) if prices.totals else ()

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

    def draft(self, source: str, q: Array | None = None) -> Draft:
        """The tree as it stands, in the order in which its nodes joined it.

        Args:
            q: [distributions, vocab], where they lie together and children were opened with their numbers.
        """
        ranked = self._ranked()
        if not self._drawn:
            ranked = ranked[: self._budget.prices.worthwhile([self._candidates[node].chance for node in ranked])]
        if not ranked:
            return EMPTY
        number = {node: rank for rank, node in enumerate(ranked)} | {ROOT: ROOT}  # of a candidate in the draft
        kept = [self._candidates[node] for node in ranked]
        q, q_rows = self._drawn_from(kept, q)
        return Draft(
            tuple(candidate.token for candidate in kept),
            tuple(number[candidate.parent] for candidate in kept),
            q,
            q_rows,
            source,
            chances=tuple(candidate.chance for candidate in kept),
        )

    def _drawn_from(self, kept: Sequence[_Candidate], q: Array | None) -> tuple[Array | None, tuple[int, ...] | None]:
        """The distributions of nodes, and the number of each one's; None where no node was drawn."""
        if not self._drawn:
            return None, None
        numbers = [candidate.q_index for candidate in kept]
        if q is not None:
            return q, tuple(numbers)
        used = sorted(set(numbers) - {CHOSEN})
        if not used:
            return None, None
        row = {number: row for row, number in enumerate(used)} | {CHOSEN: CHOSEN}
        return stack([self._distributions[number] for number in used]), tuple(row[number] for number in numbers)

    def _ranked(self) -> list[int]:
        """The candidates with the largest chances, as many as the budget buys; of equal ones the first found."""
        likely = [node for node, candidate in enumerate(self._candidates) if candidate.chance >= self._least]
        ranked = sorted(likely, key=lambda node: -self._candidates[node].chance)[: self._budget.nodes]
        if self._drawn:
            # Drawn one after the other: the first that does not pay is not drawn, nor is any after it.
            pays = (self._budget.prices.pays(rank, self._candidates[node].chance) for rank, node in enumerate(ranked))
            ranked = [node for node, paying in zip(ranked, pays, strict=True) if paying]
        return ranked
