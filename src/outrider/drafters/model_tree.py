"""The model drafter that proposes trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.growth import Growth
from outrider.drafters.model import ModelDrafter, _Row
from outrider.drafters.tree_shapes import DynamicTree, TreeShape
from outrider.maths.arrays import Array, float32, race_order, top
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft
from outrider.maths.noise import exponential
from outrider.maths.sampling import SamplingParams, adjust, distribution
from outrider.runtimes.base import Pass

UNCHANGED = SamplingParams()  # what the model itself says


@dataclass(slots=True)
class _GrowingTree:
    """A tree while it grows, and where its nodes stand in the draft model's cache.

    Attributes:
        asked: the nodes fed in the coming pass, whose children it will tell; ROOT for the tokens emitted last.
        place: of each node that was fed, its number among the tentative tokens of the row.
    """

    sequence: DraftedSequence
    row: _Row
    growth: Growth
    feed: list[int]
    parents: list[int]
    asked: list[int] = field(default_factory=lambda: [ROOT])
    place: dict[int, int] = field(default_factory=dict)


class ModelTreeDrafter(ModelDrafter):
    """Drafts trees with another model, by the same sampling settings as the target's: a pass of the model per level.

    Where the target samples, children are drawn without replacement; where it is greedy, they are the most probable
    tokens.

    Args:
        model: the draft model.
        shape: StaticTree or DynamicTree.
        greedy: always take the most probable tokens, each with a one-hot q, even where the target samples.
        name: what its tokens are attributed to.
    """

    trees = True

    def __init__(
        self, model: Any, shape: TreeShape | None = None, *, greedy: bool = False, name: str = "model"
    ) -> None:
        super().__init__(model, greedy=greedy, name=name)
        self.shape = DynamicTree() if shape is None else shape

    @property
    def _room_for_branches(self) -> int:
        return self.shape.beam * (self.shape.depth - 1)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        growing = [self._begin(sequence, budget) for sequence, budget in zip(sequences, budgets, strict=True)]
        active = [tree for tree in growing if tree is not None]
        while active:
            self._grow_level(active)
            active = [tree for tree in active if tree.feed]
        return [EMPTY if tree is None else tree.growth.draft(self.name) for tree in growing]

    def _begin(self, sequence: DraftedSequence, budget: Budget) -> _GrowingTree | None:
        # Nodes on the last level are never fed: a tree d levels deep needs positions for d - 1 more tokens.
        context = self._context(sequence) if budget.longest > 0 else ()
        depth = min(budget.depth, self.shape.depth, self._capacity - len(context) + 1)
        if not context or depth <= 0:
            return None
        row = self._row_of(sequence)
        feed = self._catch_up(row, context)
        row.feed_chain(feed)
        growth = Growth(Budget(budget.nodes, depth), beam=self.shape.beam)
        return _GrowingTree(sequence, row, growth, feed, [parent for _, parent in row.fed], place={ROOT: len(feed) - 1})

    def _grow_level(self, active: Sequence[_GrowingTree]) -> None:
        """One more level for each tree, in one forward pass."""
        work = Pass(
            [tree.row.number for tree in active],
            [tree.feed for tree in active],
            [tree.parents for tree in active],
            [len(tree.asked) for tree in active],
        )
        logits = self._opened().extend(work).logits
        logits = float32(logits)
        first = 0
        for tree in active:
            self._open(tree, self._logits_of(logits[first : first + len(tree.asked)]))
            first += len(tree.asked)
            self._plan_feed(tree)

    def _open(self, tree: _GrowingTree, logits: Array) -> None:
        """Add the children of the nodes that were asked about."""
        sequence = tree.sequence
        paths = [tree.growth.path(node) for node in tree.asked]
        logits = adjust(logits, sequence.sampling, sequence.history, paths)
        q = distribution(logits, UNCHANGED if sequence.sampling.greedy else sequence.sampling)
        probabilities, tokens = top(q, self.shape.width(len(paths[0])))
        chosen = sequence.sampling.greedy or self.greedy
        for index, (node, path) in enumerate(zip(tree.asked, paths, strict=True)):
            possible = [share for share in probabilities[index].tolist() if share > 0]
            shares = self.shape.shares(possible)
            if chosen:
                tree.growth.open(node, tokens[index, : len(possible)].tolist(), shares)
            else:
                drawn = self._draw_children(sequence, q[index], len(path), node, len(possible))
                tree.growth.open(node, drawn, shares, q[index])

    def _draw_children(self, sequence: DraftedSequence, q: Array, depth: int, node: int, count: int) -> list[int]:
        """`count` draws from q without replacement, in their order."""
        key = sequence.noise.draft(len(sequence.tokens) + depth, branch=node + 1)
        return race_order(q, exponential([key], q.shape[-1], q)[0], count)

    def _plan_feed(self, tree: _GrowingTree) -> None:
        tree.asked = tree.growth.next_level()
        tree.feed, tree.parents = [], []
        for node in tree.asked:
            token, above = tree.growth.node(node)
            tree.place[node] = len(tree.row.fed)
            tree.feed.append(self._fed_as(token))
            tree.parents.append(tree.place[above])
            tree.row.fed.append((tree.feed[-1], tree.place[above]))
