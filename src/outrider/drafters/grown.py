"""Trees that a session grows by itself: what it is asked, and what its answer says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outrider.drafters.tree_shapes import DynamicTree, StaticTree, TreeShape
from outrider.maths.arrays import Array, HostFloats
from outrider.maths.draft import ROOT
from outrider.runtimes.growing import ABSENT, Grown, TreePlan, TreeRow

# From a node, the tokens and probabilities of its children, and its place in `Grown`, to the names of the children.
Open = Callable[[int, list[int], list[float], int], range]


def plan_of(shape: TreeShape, rows: Sequence[TreeRow], factors: HostFloats | None = None) -> TreePlan | None:
    """The plan of trees of a shape; None where the shape decides by code of its own."""
    if not isinstance(shape, StaticTree | DynamicTree):
        return None
    widths = tuple(shape.width(level) for level in range(shape.depth))
    fixed = tuple(shape.shares([1.0] * max(widths))) if isinstance(shape, StaticTree) else None
    return TreePlan(rows, widths, shape.beam, fixed, factors)


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
    grown: Grown, plan: TreePlan, names: Sequence[int], open_children: Sequence[Callable[[bool], Open]]
) -> dict[int, Array]:
    """Open all trees, of rows with these names.

    Args:
        open_children: of each tree; they are told whether its tokens were chosen, not drawn.

    Returns:
        the distributions [places, vocab] of the trees that were drawn, by name.
    """
    for index, (opening, row) in enumerate(zip(open_children, plan.rows, strict=True)):
        replay(grown, index, opening(row.chosen))
    if grown.q is None:
        return {}
    rows = enumerate(zip(names, plan.rows, strict=True))
    return {name: grown.q[:, index] for index, (name, row) in rows if not row.chosen}
