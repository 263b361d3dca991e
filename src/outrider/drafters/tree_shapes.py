"""Which trees a draft model grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from outrider.errors import SettingError, shown
from outrider.values import is_whole, listed, whole

# The shares (growth.py) of a fixed tree's nodes: a guess of how often a first child is accepted, and each further
# sibling compared with the one before it. Only the order matters in which they rank nodes, where the budget buys few.
FIRST_CHILD = 0.7
NEXT_SIBLING = 0.3
LARGEST_FIXED_TREE = 1024


@runtime_checkable
class TreeShape(Protocol):
    """What a draft model's tree looks like.

    Attributes:
        depth: the most levels.
        beam: how many nodes of a level may have children, each a token in the draft model's pass.
    """

    @property
    def depth(self) -> int: ...

    @property
    def beam(self) -> int: ...

    def width(self, level: int) -> int:
        """How many children a node has at most; the pending token is level 0."""

    def shares(self, probabilities: Sequence[float]) -> Sequence[float]:
        """The estimated probability of each child to be accepted if its parent is, falling.

        Args:
            probabilities: the draft model's largest ones for what follows the parent, falling.
        """


@dataclass(frozen=True)
class StaticTree:
    """A tree of a fixed shape: the nodes of a level have equally many children (SpecInfer, arXiv 2305.09781, 3.1).

    Args:
        widths: children per node, level by level; (3, 2, 1) has 3 + 6 + 6 nodes. A smaller budget takes first
            siblings, and nodes near the root.

    Raises:
        SettingError: a width below 1, no level at all, or more nodes than a target could score.
    """

    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", listed("widths", self.widths, "children per node, level by level"))
        if not self.widths or not all(is_whole(width, 1) for width in self.widths):
            raise SettingError(
                f"tree widths are {shown(self.widths)}: give at least one level, of at least 1 child each"
            )
        if self.nodes > LARGEST_FIXED_TREE:
            raise SettingError(f"tree widths {self.widths} make {self.nodes} nodes: at most {LARGEST_FIXED_TREE}")

    @property
    def nodes(self) -> int:
        """Of the whole tree."""
        return sum(math.prod(self.widths[: level + 1]) for level in range(len(self.widths)))

    @property
    def depth(self) -> int:
        return len(self.widths)

    @property
    def beam(self) -> int:
        return math.prod(self.widths[:-1])

    def width(self, level: int) -> int:
        return self.widths[level]

    def shares(self, probabilities: Sequence[float]) -> Sequence[float]:
        return [FIRST_CHILD * NEXT_SIBLING**order for order in range(len(probabilities))]


@dataclass(frozen=True)
class DynamicTree:
    """A tree that grows where the draft model expects to be right: narrow where it is sure, wide where it is not.

    Args:
        most_children: of one node.
        depth: the most levels, which is how many passes the draft model makes.
        beam: how many nodes of a level, the most probable, may have children.

    Raises:
        SettingError: a number below 1.
    """

    most_children: int = 4
    depth: int = 8
    beam: int = 8

    def __post_init__(self) -> None:
        for name in ("most_children", "depth", "beam"):
            whole(f"{name} of a tree", getattr(self, name), 1)

    def width(self, level: int) -> int:
        return self.most_children

    def shares(self, probabilities: Sequence[float]) -> Sequence[float]:
        return probabilities
