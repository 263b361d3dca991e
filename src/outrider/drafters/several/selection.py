"""From several drafts of chosen tokens one tree of the likeliest nodes.

Every node has a chance. A token that several drafters propose in the same place is likelier than one that a single
drafter proposes: it fails only if all of them are wrong, as if they were wrong independently. Nodes join best first, so
that no drafter takes room from one that knows better.

Only tokens that were chosen may be picked so. A drawn token must not be left out for what it is, and tokens of a drawn
draft join before (joining.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from outrider.drafters.growth import LARGEST_SHARE
from outrider.drafters.several.joining import NodeMap
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft


@dataclass(slots=True)
class _Node:
    """A node of the union of all drafts.

    Attributes:
        failure: the probability that it fails though its parent is accepted.
        proposers: the drafts that it occurs in, and its number in each.
        children: by token.
    """

    token: int
    failure: float = 1.0
    proposers: dict[int, int] = field(default_factory=dict)
    children: dict[int, _Node] = field(default_factory=dict)


def best_of(drafts: Sequence[Draft], chances: Sequence[Sequence[float]], budget: Budget) -> tuple[Draft, list[NodeMap]]:
    """The likeliest nodes of drafts without q, as many as the budget buys and prices allow.

    Args:
        drafts: in the order in which their children are tried where chances are equal.
        chances: of each draft's tokens, to be accepted from the root on.

    Returns:
        The tree, and for each draft which nodes of the tree its own nodes became; those left out are missing.
    """
    maps: list[NodeMap] = [{ROOT: ROOT} for _ in drafts]
    root = _union(drafts, chances)
    tokens: list[int] = []
    parents: list[int] = []
    kept: list[float] = []
    sources: list[str] = []
    waiting: list[tuple[float, int, int, _Node]] = []
    order = 0

    def offer(node: _Node, name: int, chance: float) -> None:
        nonlocal order
        for child in node.children.values():
            order += 1
            heappush(waiting, (-chance * min(1.0 - child.failure, LARGEST_SHARE), order, name, child))

    offer(root, ROOT, 1.0)
    while waiting and len(tokens) < budget.nodes:
        negative, _, parent, node = heappop(waiting)
        name = len(tokens)
        tokens.append(node.token)
        parents.append(parent)
        kept.append(-negative)
        sources.append("+".join(drafts[number].source_of(own) for number, own in node.proposers.items()))
        for number, own in node.proposers.items():
            maps[number][own] = name
        offer(node, name, -negative)
    count = budget.prices.worthwhile(kept)
    for nodes in maps:
        for own in [own for own, name in nodes.items() if name >= count]:
            del nodes[own]
    if not count:
        return EMPTY, maps
    tree = Draft(
        tuple(tokens[:count]),
        tuple(parents[:count]),
        source="+".join(dict.fromkeys(draft.source for draft in drafts if len(draft))),
        sources=tuple(sources[:count]),
        chances=tuple(kept[:count]),
    )
    return tree, maps


def _union(drafts: Sequence[Draft], chances: Sequence[Sequence[float]]) -> _Node:
    """All nodes of all drafts, each prefix once; returns the root."""
    root = _Node(ROOT)
    for number, (draft, stated) in enumerate(zip(drafts, chances, strict=True)):
        nodes = {ROOT: root}
        for own, token in enumerate(draft.tokens):
            parent = draft.parent(own)
            above = 1.0 if parent == ROOT else stated[parent]
            share = min(stated[own] / above, LARGEST_SHARE) if above > 0 else 0.0
            node = nodes[parent].children.setdefault(token, _Node(token))
            node.failure *= 1.0 - share
            node.proposers.setdefault(number, own)
            nodes[own] = node
    return root
