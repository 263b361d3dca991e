"""Trees that a session grows by itself: what it is asked, and what its answer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from outrider.drafters.base import DraftedSequence
from outrider.drafters.growth import Growth
from outrider.drafters.tree_shapes import DynamicTree, StaticTree, TreeShape
from outrider.maths.arrays import Array, HostFloats
from outrider.maths.draft import ROOT
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import UNCHANGED
from outrider.runtimes.growing import ABSENT, Grown, TreePlan, TreeRow

# From a node, the tokens and probabilities of its children, and its place in `Grown`, to the names of the children.
Open = Callable[[int, list[int], list[float], int], range]


class GrowingTree(Protocol):
    """A tree of one text, while it grows."""

    @property
    def sequence(self) -> DraftedSequence: ...

    @property
    def growth(self) -> Growth: ...


T = TypeVar("T", bound=GrowingTree)


def plan_of(shape: TreeShape, rows: Sequence[TreeRow], factors: HostFloats | None = None) -> TreePlan | None:
    """The plan of trees of a shape; None where the shape decides by code of its own."""
    if not isinstance(shape, StaticTree | DynamicTree):
        return None
    widths = tuple(shape.width(level) for level in range(shape.depth))
    fixed = tuple(shape.shares([1.0] * max(widths))) if isinstance(shape, StaticTree) else None
    return TreePlan(rows, widths, shape.beam, fixed, factors)


def row_of(tree: GrowingTree, noise: RoundNoise, *, chosen: bool) -> TreeRow:
    """The row of a plan for one tree.

    Args:
        noise: draws the children.
        chosen: whether children are the most probable tokens, and none is drawn.
    """
    sequence, growth = tree.sequence, tree.growth
    return TreeRow(
        UNCHANGED if sequence.sampling.greedy else sequence.sampling,
        chosen,
        noise.tree(len(sequence.tokens)),
        growth.most,
        growth.longest,
        growth.least,
        () if chosen else growth.steps,
    )


def replay(grown: Grown, row: int, open_children: Open) -> None:
    """Open the nodes of one tree in the order in which they were opened on the device."""
    children = grown.tokens.shape[-1]
    names = {ROOT: ROOT}  # of candidates
    lines = zip(grown.above[row].tolist(), grown.tokens[row].tolist(), grown.probabilities[row].tolist(), strict=True)
    for place, (candidate, tokens, probabilities) in enumerate(lines):
        if candidate == ABSENT:
            continue
        possible = [probability for probability in probabilities if probability > 0]
        opened = open_children(names[candidate], tokens[: len(possible)], possible, place)
        names |= {place * children + order: name for order, name in enumerate(opened)}


def open_all(
    grown: Grown,
    plan: TreePlan,
    trees: Sequence[T],
    open_children: Callable[[T, bool, int, list[int], list[float], int], range],
) -> dict[int, Array]:
    """Open the nodes of all trees.

    Args:
        trees: of the plan's rows.
        open_children: from a tree, whether its tokens were chosen and not drawn, and what `Open` takes.

    Returns:
        the distributions [places, vocab] of the trees that were drawn, by sequence.
    """
    drawn = {}
    for index, (tree, row) in enumerate(zip(trees, plan.rows, strict=True)):
        replay(grown, index, partial(open_children, tree, row.chosen))
        if grown.q is not None and not row.chosen:
            drawn[tree.sequence.id] = grown.q[:, index]
    return drawn
