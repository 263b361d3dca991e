"""What a session offers that grows trees of drafts by itself, where asking the host about each level takes longer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from outrider.maths.arrays import Array, HostFloats, HostInts
from outrider.maths.noise import TreeKeys
from outrider.maths.sampling import SamplingParams

ABSENT = -2  # in the place of a candidate: the place of a level is empty


@dataclass(frozen=True, slots=True)
class TreeRow:
    """The tree of one row.

    Attributes:
        sampling: makes the probabilities; temperature 1 without filters where the target is greedy.
        chosen: whether children are the most probable tokens, and none is drawn.
        keys: for drawing them; the branch is the number of the node among all that were opened, counted from 1.
        nodes, depth: the most nodes, and levels.
        least: nodes with a smaller chance stay out.
        steps: what each further node has to be worth; none follows the last. Empty where nodes cost nothing.
    """

    sampling: SamplingParams
    chosen: bool
    keys: TreeKeys
    nodes: int
    depth: int
    least: float = 0.0
    steps: tuple[float, ...] = ()


class Spread:
    """What follows from how broad trees may become.

    Attributes:
        widths: of each level, the most children of a node; the first level is that of the text.
        beam: how many nodes of a level may have children.
    """

    __slots__ = ()
    widths: tuple[int, ...]
    beam: int

    @property
    def most_children(self) -> int:
        return max(self.widths)

    @property
    def places(self) -> int:
        """Of nodes that may have children: the text, and `beam` of each level but the last."""
        return 1 + self.beam * (len(self.widths) - 1)


@dataclass(frozen=True, slots=True)
class TreePlan(Spread):
    """Trees that grow side by side, best node first, as those of `drafters.growth.Growth`.

    Attributes:
        rows: one tree each.
        widths: of each level of the largest tree, the most children of a node; the first level is that of the text.
        beam: how many nodes of a level may have children.
        fixed: the shares of children, where they do not depend on their probabilities; None is the probabilities.
        factors: float64 [2 (drawn, chosen), levels, 2 (first child, others), buckets], by which shares are corrected;
            0 where nothing is known. None corrects nothing.
    """

    rows: Sequence[TreeRow]
    widths: tuple[int, ...]
    beam: int
    fixed: tuple[float, ...] | None = None
    factors: HostFloats | None = None

    @property
    def depth(self) -> int:
        """Levels of the deepest tree."""
        return max(row.depth for row in self.rows)


@dataclass(frozen=True, slots=True)
class Grown:
    """What grew. A *candidate* is the child number c of place s, named s * most_children + c.

    Attributes:
        above: [rows, places], the candidate that has children here; -1 for the text, ABSENT for none. Places of one
            level follow one another, largest chance first.
        tokens: [rows, places, most_children].
        probabilities: float64, of the same shape, falling: the largest of q. There are as many children as are above 0.
        q: float32 [places, rows, vocab], the distributions that children are drawn from; the next call overwrites it.
            None where all were chosen.
    """

    above: HostInts
    tokens: HostInts
    probabilities: HostFloats
    q: Array | None


def fed_in(grown: Grown) -> tuple[list[list[int]], list[list[int]]]:
    """What stands at the places behind the text: for each row the tokens, and the places of their parents; 0 is the
    text. Empty places have the token and the parent -1."""
    rows, places, children = grown.tokens.shape
    above, tokens = grown.above[:, 1:], grown.tokens.reshape(rows, places * children)
    there = above >= 0
    at = np.where(there, above, 0)
    fed = np.where(there, np.take_along_axis(tokens, at, axis=1), -1)
    return fed.tolist(), np.where(there, at // children, -1).tolist()


@runtime_checkable
class GrowsTrees(Protocol):
    """A session that grows trees by itself."""

    def can_grow(self, plan: TreePlan, vocab_size: int) -> bool:
        """Whether its memory is large enough."""

    def grow_trees(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], plan: TreePlan, vocab_size: int
    ) -> Grown:
        """Feed each row its tokens, and grow a tree after them; what was fed is tentative.

        Nodes lie behind the tokens: place s of the tree is the s-th tentative token after the newest of them.

        Args:
            vocab_size: only ids below it are drafted.

        Raises:
            ModelError: a logit is not a finite number.
        """
