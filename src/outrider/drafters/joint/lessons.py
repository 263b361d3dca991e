"""Learns from the verdict on a joint tree: calibrations and weights of lookups, head and drawn tokens."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.drafters.joint.blend import Blend
from outrider.drafters.joint.nodes import Nodes
from outrider.drafters.lookup.calibration import Calibration
from outrider.maths.draft import CHOSEN, ROOT


def teach(tree: Nodes, calibration: Calibration, blend: Blend, path: Sequence[int], came: Sequence[int]) -> None:
    """Learn from a verdict.

    Args:
        calibration: of the lookups.
        blend: what is known of the head.
        path: the accepted nodes.
        came: what came after the root and after each of these, as far as it is known.
    """
    for node, token in zip((ROOT, *path), came, strict=False):
        place = tree.places.get(node)
        if place is None or place.expected is None:
            return
        calibration.learn(place.expected.shares, place.expected.evidence, token)
        if place.asked is not None:
            blend.learn(place.asked, place.looked_up, place.family, place.shares, token)
    _teach_drawn(tree, blend, set(path))


def _teach_drawn(tree: Nodes, blend: Blend, path: set[int]) -> None:
    reached = {ROOT, *path}
    ranks: dict[int, int] = {}
    for node, (parent, row) in enumerate(zip(tree.parents, tree.q_rows, strict=True)):
        rank = ranks[parent] = ranks.get(parent, -1) + 1
        if row != CHOSEN and parent in reached:
            place = tree.places[parent]
            if rank < len(place.ranks):
                hit = int(node in path)
                blend.drawn.learn({1: place.ranks[rank]}, (place.family[2], min(rank, 1)), hit)
