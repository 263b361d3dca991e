"""What a joint tree asks for, what its questions cost, and what all trees of a drafter have in common."""

from __future__ import annotations

from typing import NamedTuple


class Wish(NamedTuple):
    """What a tree needs to grow on.

    Attributes:
        node: whose children the head is asked for.
        draws: whether one child is to be drawn, from what the head answered before.
    """

    node: int
    draws: bool


class StepPrices(NamedTuple):
    """What questions cost, in tokens.

    Attributes:
        first: the first one, about the text itself.
        further: each node that the head reads.
    """

    first: float = 0.0
    further: float = 0.0


class JointTerms(NamedTuple):
    """What all trees of a drafter have in common.

    Attributes:
        children: the most that a node may have; 1 grows chains.
        least: nodes with a smaller chance stay out where nothing has a price.
    """

    children: int
    least: float
