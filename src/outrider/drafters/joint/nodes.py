"""The nodes of a joint tree, in the order in which they joined, and the draft that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.joint.blend import Family, Kind
from outrider.drafters.lookup.growth import Terms
from outrider.drafters.lookup.mixture import Expected
from outrider.drafters.lookup.source import Context
from outrider.maths.arrays import Array, stack
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft


@dataclass(slots=True)
class Place:
    """The text, or a node: what is known of what follows it.

    Attributes:
        chance: of the node.
        looked_up: calibrated shares of the lookups.
        asked: what the head answered; None where it was not asked.
        shares: of both together, before correction.
        answers: how often children were ranked; candidates of an earlier ranking are out of date.
        children: the tokens that joined, in their order.
        ranks: what the head gives to its likeliest tokens, falling.
    """

    cursors: Sequence[Any]
    context: Context
    depth: int
    chance: float
    expected: Expected | None = None
    family: Family = (0, 0, 0)
    kind: Kind = (0, 0, 0)
    looked_up: dict[int, float] = field(default_factory=dict)
    asked: Mapping[int, float] | None = None
    shares: dict[int, float] = field(default_factory=dict)
    answers: int = 0
    children: list[int] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)


class Nodes:
    """A tree as it stands.

    Attributes:
        budget: how large it may become, and what its nodes cost.
        tokens, parents, chances, proposers: of its nodes, in the order in which they joined.
        q_rows: of its nodes.
        q: the distributions from which nodes were drawn.
        places: what is known of the text (ROOT) and of each node.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.chances: list[float] = []
        self.proposers: list[int] = []
        self.q_rows: list[int] = []
        self.q: list[Array] = []
        self.places: dict[int, Place] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    def token(self, node: int) -> int:
        return self.tokens[node]

    def parent(self, node: int) -> int:
        return self.parents[node]

    def children_of(self, node: int) -> list[int]:
        """The tokens that joined below a node."""
        return self.places[node].children

    def depth(self, node: int) -> int:
        return self.places[node].depth

    def path(self, node: int) -> list[int]:
        """The tokens from the root's child to `node`."""
        tokens = []
        while node != ROOT:
            tokens.append(self.tokens[node])
            node = self.parents[node]
        return tokens[::-1]

    def join(self, parent: int, token: int, chance: float, proposers: int, q_row: int) -> int:
        """Add a node, and return its number."""
        node = len(self.tokens)
        self.tokens.append(token)
        self.parents.append(parent)
        self.chances.append(chance)
        self.proposers.append(proposers)
        self.q_rows.append(q_row)
        self.places[parent].children.append(token)
        return node

    def draft(self, terms: Terms) -> Draft:
        """The tree, as far as it is worth its price. What was drawn stays."""
        drawn = max((node + 1 for node, row in enumerate(self.q_rows) if row != CHOSEN), default=0)
        count = drawn + self.budget.prices.beyond(drawn).worthwhile(self.chances[drawn:])
        if not count:
            return EMPTY.knowing(terms.experience)
        return Draft(
            tuple(self.tokens[:count]),
            tuple(self.parents[:count]),
            stack(self.q) if self.q else None,
            tuple(self.q_rows[:count]) if self.q else None,
            source=terms.source,
            sources=tuple([terms.names[bits] for bits in self.proposers[:count]]),
            chances=tuple(self.chances[:count]),
            experience=terms.experience,
        )
