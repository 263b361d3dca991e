"""Answers the questions of growing trees: feeds the head nodes, and draws children from its distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from outrider.drafters.adjusting import adjusted
from outrider.drafters.base import DraftedSequence
from outrider.drafters.heads.native_entries import NativeEntries
from outrider.drafters.heads.texts import HeadTexts
from outrider.drafters.heads.vocabulary import DraftVocabulary
from outrider.drafters.joint.compiled import CompiledJointTree
from outrider.drafters.joint.grown import Answers
from outrider.drafters.joint.growth import JointTree
from outrider.maths.arrays import Array, concatenate, sums, top, without
from outrider.maths.budget import Budget
from outrider.maths.draft import ROOT
from outrider.maths.draws import draw, draw_shared, normalised
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import UNCHANGED, distribution, live_rows


@dataclass(slots=True, eq=False)
class Asked:
    """A tree, and what the head knows of it.

    Attributes:
        noise: what its children are drawn with.
        draws: whether they are drawn.
        budget: the most nodes and levels.
        made: of each node that the head has read, what it made of it, [1, hidden size].
        cached: of each node that was fed, its number among the tentative entries of the row.
        q: of each node that was asked about, [draft vocabulary], where children are drawn.
        grown: all answers, where a tree of the head grew on a device.
        seconds: that its questions took.
    """

    sequence: DraftedSequence
    tree: JointTree | CompiledJointTree
    noise: RoundNoise
    draws: bool
    budget: Budget
    made: dict[int, Array] = field(default_factory=dict)
    cached: dict[int, int] = field(default_factory=dict)
    q: dict[int, Array] = field(default_factory=dict)
    grown: Answers | None = None
    seconds: float = 0.0

    def answer(self, node: int) -> None:
        """Answer by the tree that grew; other nodes keep the estimates of the lookups."""
        answer = None if self.grown is None else self.grown.get(tuple(self.tree.path(node)))
        if answer is not None:
            self.tree.answer(node, *answer)


class Questions:
    """Answers what trees ask, all of them together.

    Args:
        told: how many tokens of an answer are looked at.
    """

    def __init__(self, texts: HeadTexts, vocabulary: DraftVocabulary, told: int) -> None:
        self._texts = texts
        self._vocabulary = vocabulary
        self._told = told

    def read_texts(self, asked: Sequence[Asked]) -> None:
        """Catch up with the texts of these trees."""
        for each, made in zip(asked, self._texts.catch_up([each.sequence for each in asked]), strict=True):
            each.made[ROOT] = made

    def ask(self, asked: Sequence[Asked], nodes: Sequence[int]) -> int:
        """Read one node of each tree, with those above it that were not read, and answer.

        Returns:
            how many nodes were read.
        """
        ways = [_unread(each, node) for each, node in zip(asked, nodes, strict=True)]
        for step in range(max(map(len, ways))):
            going = [(each, way[step]) for each, way in zip(asked, ways, strict=True) if step < len(way)]
            self._feed(going)
        self._answer(asked, nodes)
        return sum(map(len, ways))

    def grows_alone(self, each: Asked) -> bool:
        """Whether the compiled library asks and answers by itself: nothing is drawn or adjusted."""
        sampling = each.sequence.sampling
        return (
            isinstance(each.tree, CompiledJointTree)
            and isinstance(self._texts.entries, NativeEntries)
            and sampling.greedy
            and not sampling.adjusts_logits
        )

    def grow_alone(self, each: Asked, node: int) -> int:
        """Grow a tree to its end, for which `grows_alone` holds and which asks about a node; how many were read."""
        entries, tree = self._texts.entries, each.tree
        assert isinstance(entries, NativeEntries)
        assert isinstance(tree, CompiledJointTree)
        row = self._texts.row_of(each.sequence)
        return entries.grow(row, each.made[ROOT], tree.core, node, self._texts.network.ids, self._told)

    def draw(self, each: Asked, node: int) -> None:
        """Draw a child of a node that the head was asked about; without the tokens that it has."""
        tree, q = each.tree, self._vocabulary.spread(each.q[node])
        there = tree.children_of(node)
        if there:
            q = without(q, there)
            if not sums(q) > 0:
                return
            q = normalised(q, otherwise=q)
        position = len(each.sequence.tokens) + tree.depth(node)
        key = each.noise.draft(position, branch=len(tree) + 1)
        tree.drew(node, draw_shared(q, key) if each.noise.shared else draw(q, key), q)

    def _feed(self, going: Sequence[tuple[Asked, int]]) -> None:
        """One node of each tree, whose parents were read."""
        above = [each.tree.parent(node) for each, node in going]
        origins = [
            self._texts.network.passed_on(each.made[parent]) for (each, _), parent in zip(going, above, strict=True)
        ]
        made = self._texts.entries.extend(
            [self._texts.row_of(each.sequence) for each, _ in going],
            origins[0] if len(origins) == 1 else concatenate(origins),
            [[each.tree.token(node)] for each, node in going],
            [[each.cached.get(parent, -1)] for (each, _), parent in zip(going, above, strict=True)],
        )
        for place, (each, node) in enumerate(going):
            each.cached[node] = len(each.cached)
            each.made[node] = made[place : place + 1]

    def _answer(self, asked: Sequence[Asked], nodes: Sequence[int]) -> None:
        made = [each.made[node] for each, node in zip(asked, nodes, strict=True)]
        states = made[0] if len(made) == 1 else concatenate(made)
        samplings = [each.sequence.sampling for each in asked]
        if all(sampling.greedy and not sampling.adjusts_logits for sampling in samplings):
            # No whole distributions are needed: the head's runtime finds the most probable tokens.
            places, probabilities = self._texts.network.likely(states, self._told)
            for row, (each, node) in enumerate(zip(asked, nodes, strict=True)):
                each.tree.answer(node, self._vocabulary.in_target(places[row]), probabilities[row].tolist())
            return
        logits = self._texts.network.logits(states)
        for row, (each, node) in enumerate(zip(asked, nodes, strict=True)):
            self._answer_one(each, node, logits[row : row + 1])

    def _answer_one(self, each: Asked, node: int, logits: Array) -> None:
        """By the settings of its text; logits [1, draft vocabulary]."""
        sampling = each.sequence.sampling
        if sampling.adjusts_logits:
            # Penalties and grammars are given in the target's tokens.
            wide = self._vocabulary.widened(logits)
            logits = self._vocabulary.narrowed(adjusted(wide, sampling, each.sequence.history, [each.tree.path(node)]))
            if not live_rows(logits):
                each.tree.answer(node, [], [])
                return
        q = distribution(logits, UNCHANGED if sampling.greedy else sampling)
        probabilities, places = top(q, self._told)
        possible = [share for share in probabilities[0].tolist() if share > 0]
        if each.draws:
            each.q[node] = q[0]
        each.tree.answer(node, self._vocabulary.in_target(places[0, : len(possible)]), possible)


def _unread(each: Asked, node: int) -> list[int]:
    """The nodes on the way to this one that the head has not read, itself included, from above."""
    way = []
    while node not in each.made:
        way.append(node)
        node = each.tree.parent(node)
    return way[::-1]
