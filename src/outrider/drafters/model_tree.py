"""The model drafter that proposes trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.adjusting import adjusted
from outrider.drafters.base import DraftedSequence
from outrider.drafters.cache import CachedDrafter, CachedRow, DraftCache
from outrider.drafters.grown import open_all, plan_of, row_of
from outrider.drafters.growth import Growth
from outrider.drafters.tree_shapes import DynamicTree, TreeShape
from outrider.errors import SettingError, shown
from outrider.maths.arrays import Array, HostFloats, HostInts, stack, top
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, EMPTY, ROOT, Draft
from outrider.maths.draws import draw_several
from outrider.maths.sampling import UNCHANGED, common_settings, distribution, live_rows
from outrider.runtimes.growing import TreePlan
from outrider.runtimes.loading import as_model
from outrider.values import require_flag


@dataclass(slots=True, eq=False)
class _Tree:
    """A tree while it grows, and where its nodes stand in the draft model's cache.

    Attributes:
        asked: the nodes fed in the coming pass, which gives their children; ROOT for the tokens emitted last.
        cached: of each node that was fed, its number among the tentative tokens of the row.
    """

    sequence: DraftedSequence
    row: CachedRow
    growth: Growth
    asked: list[int] = field(default_factory=lambda: [ROOT])
    cached: dict[int, int] = field(default_factory=dict)


class ModelTreeDrafter(CachedDrafter):
    """Drafts trees with another model, by the same sampling settings as the target's: a pass of the model per level.

    Where the target samples, children are drawn without replacement; where it is greedy, they are the most probable
    tokens.

    Args:
        model: the draft model, in any form that `as_model` takes.
        shape: StaticTree or DynamicTree.
        greedy: always take the most probable tokens, each with a one-hot q, even where the target samples.
        name: what its tokens are attributed to.
    """

    trees = True

    def __init__(
        self, model: Any, shape: TreeShape | None = None, *, greedy: bool = False, name: str = "model"
    ) -> None:
        require_flag("greedy", greedy)
        if shape is not None and not isinstance(shape, TreeShape):
            raise SettingError(f"shape is {shown(shape)}: give a StaticTree, a DynamicTree, or None")
        self.shape = DynamicTree() if shape is None else shape
        super().__init__(DraftCache(as_model(model), branches=self.shape.beam * (self.shape.depth - 1)), name)
        self._greedy = greedy

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        trees = [self._begin(sequence, budget) for sequence, budget in zip(sequences, budgets, strict=True)]
        active = [tree for tree in trees if tree is not None]
        if active and (plan := self._plan(active)) and self.cache.can_grow(plan):
            q_of = self._grow_out(active, plan)
            return [
                EMPTY if tree is None else tree.growth.draft(self.name, q_of.get(tree.sequence.id)) for tree in trees
            ]
        while active:
            self._grow_level(active)
            active = [tree for tree in active if tree.asked]
        return [EMPTY if tree is None else tree.growth.draft(self.name) for tree in trees]

    def _begin(self, sequence: DraftedSequence, budget: Budget) -> _Tree | None:
        # Nodes on the last level are never fed: a tree d levels deep needs positions for d - 1 more tokens.
        text = self.cache.vocabulary.text(sequence) if budget.longest > 0 else ()
        depth = min(budget.depth, self.shape.depth, self.cache.room(text))
        if depth <= 0:
            return None
        row = self.cache.follow(sequence, text)
        growth = Growth(Budget(budget.nodes, depth), beam=self.shape.beam)
        return _Tree(sequence, row, growth, cached={ROOT: len(row.feed) - 1})

    def _plan(self, trees: Sequence[_Tree]) -> TreePlan | None:
        """How the session grows these trees by itself; None where it cannot, as each level needs the host."""
        if any(tree.sequence.sampling.adjusts_logits for tree in trees):
            return None
        rows = [row_of(tree, tree.sequence.noise, chosen=self._chooses(tree)) for tree in trees]
        return plan_of(self.shape, rows)

    def _chooses(self, tree: _Tree) -> bool:
        """Whether children are the most probable tokens, and none is drawn."""
        return self._greedy or tree.sequence.sampling.greedy

    def _grow_out(self, trees: Sequence[_Tree], plan: TreePlan) -> dict[int, Array]:
        """All levels of all trees, where the model runs; the distributions of those that were drawn."""
        grown = self.cache.grow_trees([tree.row for tree in trees], plan)
        return open_all(grown, plan, trees, self._open_grown)

    def _open_grown(
        self, tree: _Tree, chosen: bool, node: int, tokens: list[int], possible: list[float], place: int
    ) -> range:
        return tree.growth.open_from(node, tokens, self.shape.shares(possible), CHOSEN if chosen else place)

    def _grow_level(self, active: Sequence[_Tree]) -> None:
        """One more level for each tree, in one forward pass."""
        logits = self.cache.score([tree.row for tree in active], [len(tree.asked) for tree in active])
        common = common_settings([tree.sequence.sampling for tree in active])
        first = 0
        if common is None:
            for tree in active:
                self._open_adjusted(tree, logits[first : first + len(tree.asked)])
                first += len(tree.asked)
        else:
            q = distribution(logits, UNCHANGED if common.greedy else common)
            probabilities, tokens = top(q, self._width(active[0]))
            for tree in active:
                rows = slice(first, first + len(tree.asked))
                self._open(tree, q[rows], probabilities[rows], tokens[rows])
                first += len(tree.asked)
        for tree in active:
            self._plan_feed(tree)

    def _open_adjusted(self, tree: _Tree, logits: Array) -> None:
        """As `_open`, for a text whose distributions depend on its tokens so far (penalties, processors)."""
        sampling = tree.sequence.sampling
        paths = [tree.growth.path(node) for node in tree.asked]
        logits = adjusted(logits, sampling, tree.sequence.history, paths)
        if sampling.logits_processors:
            live = live_rows(logits)
            if not live:
                return
            logits = stack([logits[row] for row in live])
            tree.asked = [tree.asked[row] for row in live]
        q = distribution(logits, UNCHANGED if sampling.greedy else sampling)
        self._open(tree, q, *top(q, self._width(tree)))

    def _width(self, tree: _Tree) -> int:
        """How many children a node of the level may have."""
        return self.shape.width(len(tree.growth.path(tree.asked[0])))

    def _open(self, tree: _Tree, q: Array, probabilities: HostFloats, tokens: HostInts) -> None:
        """Add the children of the nodes that were asked about, whose most probable tokens are given."""
        chosen = self._chooses(tree)
        for index, node in enumerate(tree.asked):
            possible = [share for share in probabilities[index].tolist() if share > 0]
            shares = self.shape.shares(possible)
            if chosen:
                tree.growth.open(node, tokens[index, : len(possible)].tolist(), shares)
            else:
                depth = len(tree.growth.path(node))
                drawn = self._draw_children(tree.sequence, q[index], depth, node, len(possible))
                tree.growth.open(node, drawn, shares, q[index])

    def _draw_children(self, sequence: DraftedSequence, q: Array, depth: int, node: int, count: int) -> list[int]:
        """`count` draws from q without replacement, in their order."""
        key = sequence.noise.draft(len(sequence.tokens) + depth, branch=node + 1)
        return draw_several(q, key, count)

    def _plan_feed(self, tree: _Tree) -> None:
        tree.asked = tree.growth.next_level()
        row = tree.row
        row.parents = []
        for node in tree.asked:
            token, above = tree.growth.node(node)
            tree.cached[node] = len(row.fed) + len(row.feed)
            row.feed.append(self.cache.vocabulary.fed_as(token))
            row.parents.append(tree.cached[above])
