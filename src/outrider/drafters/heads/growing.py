"""How a head grows its drafts: level by level, or all at once where the head computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from outrider.drafters.adjusting import adjusted
from outrider.drafters.base import DraftedSequence
from outrider.drafters.grown import open_all, plan_of, row_of
from outrider.drafters.growth import Growth
from outrider.drafters.heads.expectations import Expectations
from outrider.drafters.heads.network import Chains
from outrider.drafters.heads.texts import HeadTexts
from outrider.drafters.heads.vocabulary import DraftVocabulary
from outrider.drafters.tree_shapes import TreeShape
from outrider.maths.arrays import Array, HostFloats, HostFloats32, HostInts, concatenate, top
from outrider.maths.budget import Budget
from outrider.maths.draft import CHOSEN, ROOT
from outrider.maths.draws import draw_several
from outrider.maths.noise import Key, RoundNoise
from outrider.maths.sampling import UNCHANGED, distribution, live_rows
from outrider.runtimes.growing import TreePlan

TINY = 1e-3  # a chance that no price is worth


@dataclass(slots=True, eq=False)
class HeadTree:
    """A tree while it grows. A chain is a tree whose nodes have one child.

    Attributes:
        noise: draws its nodes.
        row: of the head's cache.
        asked: the nodes whose children come next; ROOT for the text itself.
        level: their depth; 0 is that of ROOT.
        states: [asked, hidden size], what the head made of the way to each of them.
        cached: of each node that was fed, its number among the tentative entries of the row.
    """

    sequence: DraftedSequence
    noise: RoundNoise
    row: int
    growth: Growth
    states: Array
    asked: list[int] = field(default_factory=lambda: [ROOT])
    level: int = 0
    cached: dict[int, int] = field(default_factory=dict)


class HeadGrower:
    """Grows trees, or chains, with a head.

    Args:
        texts: that the head follows.
        shape: of the trees.
        trees: False grows chains.
        draws: whether children are drawn where the target samples; False always takes the most probable ones.
        vocabulary: that the head drafts in.
        expectations: correct the chances of children, and are told what was expected.
    """

    def __init__(
        self,
        texts: HeadTexts,
        shape: TreeShape,
        *,
        trees: bool,
        draws: bool,
        vocabulary: DraftVocabulary,
        expectations: Expectations,
    ) -> None:
        self._texts = texts
        self._shape = shape
        self._trees = trees
        self._draws = draws
        self._vocabulary = vocabulary
        self._expectations = expectations

    def begin(self, sequence: DraftedSequence, budget: Budget, noise: RoundNoise, state: Array) -> HeadTree:
        """A tree of which nothing has grown.

        Args:
            state: [1, hidden size], what the head made of the text.
        """
        self._expectations.begin(sequence.id, len(sequence.tokens))
        depth = min(budget.depth, self._shape.depth)
        nodes = budget.nodes if self._trees else budget.longest
        least = max(budget.prices.cheapest, TINY) if budget.prices.totals else 0.0
        growth = Growth(Budget(nodes, depth, budget.prices), beam=self._shape.beam, least=least)
        return HeadTree(sequence, noise, self._texts.row_of(sequence), growth, state)

    def grow(self, trees: Sequence[HeadTree]) -> dict[int, Array]:
        """Grow all trees to their end.

        Returns:
            the distributions [nodes or places, vocab] that a device drew from, by sequence.
        """
        if trees and self._rolls_out(trees):
            return self._roll_out(trees)
        if trees and (plan := self._plan(trees)) is not None:
            return self._grow_out(trees, plan)
        while trees:
            self._open_level(trees)
            trees = self._feed_level(trees)
        return {}

    def _chooses(self, tree: HeadTree) -> bool:
        """Whether children are the most probable tokens, and none is drawn."""
        return not self._draws or tree.sequence.sampling.greedy

    # Level by level

    def _open_level(self, trees: Sequence[HeadTree]) -> None:
        """The children of all nodes that were asked about."""
        made = concatenate([tree.states for tree in trees])
        samplings = [tree.sequence.sampling for tree in trees]
        ends = list(accumulate(len(tree.asked) for tree in trees))
        if all(sampling.greedy and not sampling.adjusts_logits for sampling in samplings):
            # No whole distributions are needed: the head's runtime finds the most probable tokens.
            widest = max(self._shape.width(tree.level) for tree in trees)
            places, probabilities = self._texts.network.likely(made, widest)
            for tree, end in zip(trees, ends, strict=True):
                own = slice(end - len(tree.asked), end)
                self._open_children(tree, probabilities[own], places[own])
            return
        logits = self._texts.network.logits(made)
        for tree, end in zip(trees, ends, strict=True):
            self._open(tree, logits[end - len(tree.asked) : end])

    def _open(self, tree: HeadTree, logits: Array) -> None:
        """The same for one text; logits [asked, draft vocabulary]."""
        sampling = tree.sequence.sampling
        if sampling.adjusts_logits:
            # Penalties and grammars are given in the target's tokens.
            paths = [tree.growth.path(node) for node in tree.asked]
            wide = adjusted(self._vocabulary.widened(logits), sampling, tree.sequence.history, paths)
            logits = self._vocabulary.narrowed(wide)
            live = live_rows(logits)
            if not live:
                tree.asked = []
                return
            if len(live) < len(tree.asked):
                tree.asked = [tree.asked[row] for row in live]
                logits, tree.states = logits[live], tree.states[live]
        q = distribution(logits, UNCHANGED if sampling.greedy else sampling)
        probabilities, places = top(q, self._shape.width(tree.level))
        self._open_children(tree, probabilities, places, None if self._chooses(tree) else q)

    def _open_children(
        self, tree: HeadTree, probabilities: HostFloats | HostFloats32, places: HostInts, q: Array | None = None
    ) -> None:
        """The children of the nodes of a level, chosen, or drawn from q [asked, draft vocabulary].

        Args:
            probabilities, places: [asked, children], falling.
        """
        width = self._shape.width(tree.level)
        for index, node in enumerate(tree.asked):
            possible = [share for share in probabilities[index].tolist()[:width] if share > 0]
            likely = self._vocabulary.in_target(places[index, : len(possible)])
            if q is None:
                tokens, row = likely, None
            else:
                row = self._vocabulary.spread(q[index])
                tokens = self._draw_children(tree, row, node, len(possible))
            tree.growth.open(node, tokens, self._shares(tree, tree.level, node, tokens, possible, row is None), row)

    def _draw_children(self, tree: HeadTree, q: Array, node: int, count: int) -> list[int]:
        """`count` draws from q [vocabulary] without replacement, in their order."""
        return draw_several(q, _key(tree, tree.level, node), count)

    def _shares(
        self, tree: HeadTree, level: int, node: int, tokens: Sequence[int], probabilities: Sequence[float], chosen: bool
    ) -> list[float]:
        """The chances of the children of one node; what is expected of them is remembered.

        Args:
            probabilities: the largest of q, or of what they were chosen by.
            chosen: whether they were chosen, not drawn.
        """
        estimates = list(self._shape.shares(probabilities))
        self._expectations.note(tree.sequence.id, tree.growth.path(node), tokens, estimates, chosen)
        return self._expectations.corrected(estimates, level, chosen)

    def _feed_level(self, trees: Sequence[HeadTree]) -> list[HeadTree]:
        """Read the newest nodes that may have children, in one pass; the trees that go on."""
        going: list[HeadTree] = []
        parents: list[list[int]] = []
        origins: list[Array] = []
        for tree in trees:
            above = {node: place for place, node in enumerate(tree.asked)}
            nodes = tree.growth.next_level() if tree.asked else []
            if not nodes:
                continue
            came_from = [tree.growth.node(node)[1] for node in nodes]
            parents.append([tree.cached.get(node, -1) for node in came_from])
            origins.append(self._texts.network.passed_on(tree.states[[above[node] for node in came_from]]))
            for node in nodes:
                tree.cached[node] = len(tree.cached)
            tree.asked = nodes
            tree.level += 1
            going.append(tree)
        if going:
            tokens = [[tree.growth.node(node)[0] for node in tree.asked] for tree in going]
            made = self._texts.entries.extend([tree.row for tree in going], concatenate(origins), tokens, parents)
            first = 0
            for tree in going:
                tree.states = made[first : first + len(tree.asked)]
                first += len(tree.asked)
        return going

    # All at once

    def _plan(self, trees: Sequence[HeadTree]) -> TreePlan | None:
        """How these trees grow where the head computes; None where they cannot."""
        entries = self._texts.grows_out
        if not self._trees or entries is None or _adjust_logits(trees):
            return None
        rows = [row_of(tree, tree.noise, chosen=self._chooses(tree)) for tree in trees]
        plan = plan_of(self._shape, rows, self._expectations.factors())
        return plan if plan is not None and entries.can_grow(plan, self._vocabulary.size) else None

    def _grow_out(self, trees: Sequence[HeadTree], plan: TreePlan) -> dict[int, Array]:
        """All levels of all trees; the distributions of those that were drawn."""
        entries = self._texts.grows_out
        assert entries is not None
        made = concatenate([tree.states for tree in trees])
        grown = entries.grow_trees([tree.row for tree in trees], made, plan, self._vocabulary.size)
        return open_all(grown, plan, trees, self._open_grown)

    def _open_grown(
        self, tree: HeadTree, chosen: bool, node: int, tokens: list[int], possible: list[float], place: int
    ) -> range:
        level = 0 if place == 0 else 1 + (place - 1) // self._shape.beam
        shares = self._shares(tree, level, node, tokens, possible, chosen)
        return tree.growth.open_from(node, tokens, shares, CHOSEN if chosen else place)

    def _rolls_out(self, trees: Sequence[HeadTree]) -> bool:
        """Whether the chains of these texts are rolled out where the head computes."""
        return not self._trees and not _adjust_logits(trees) and self._texts.rolls_out is not None

    def _roll_out(self, trees: Sequence[HeadTree]) -> dict[int, Array]:
        """All tokens of all chains; the distributions of those that were drawn.

        Where a chain ends depends on what was known before its next token was drawn.
        """
        entries, count = self._texts.rolls_out, max(tree.growth.longest for tree in trees)
        assert entries is not None
        samplings = [tree.sequence.sampling for tree in trees]
        chains = Chains(
            [UNCHANGED if sampling.greedy else sampling for sampling in samplings],
            [self._chooses(tree) for tree in trees],
            [[_key(tree, level, level - 1) for level in range(count)] for tree in trees],
            self._vocabulary.size,
        )
        rolled = entries.roll_out([tree.row for tree in trees], concatenate([tree.states for tree in trees]), chains)
        for index, (tree, chosen) in enumerate(zip(trees, chains.chosen, strict=True)):
            for step, token in enumerate(rolled.tokens[index]):
                node, largest = tree.asked[0], [rolled.largest[index][step]]
                shares = self._shares(tree, tree.level, node, [token], largest, chosen)
                tree.growth.open_from(node, [token], shares, CHOSEN if chosen else step)
                tree.asked = tree.growth.next_level()
                tree.level += 1
                if not tree.asked:
                    break
        drawn = enumerate(zip(trees, chains.chosen, strict=True))
        return {tree.sequence.id: rolled.q[:, index] for index, (tree, chosen) in drawn if not chosen}


def _adjust_logits(trees: Sequence[HeadTree]) -> bool:
    """Whether one of them has penalties, biases or processors, which the head's own runtime does not apply."""
    return any(tree.sequence.sampling.adjusts_logits for tree in trees)


def _key(tree: HeadTree, level: int, node: int) -> Key:
    """For drawing the children of a node."""
    return tree.noise.draft(len(tree.sequence.tokens) + level, branch=node + 1)
