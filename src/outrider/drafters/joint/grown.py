"""A tree of the head alone, grown where the head computes: what answers the questions of a joint tree in one read."""

from __future__ import annotations

from collections.abc import Sequence

from outrider.drafters.base import DraftedSequence
from outrider.drafters.grown import plan_of, replay
from outrider.drafters.heads.texts import HeadTexts
from outrider.drafters.tree_shapes import DynamicTree, StaticTree, TreeShape
from outrider.maths.arrays import Array, concatenate
from outrider.maths.budget import Budget
from outrider.maths.draft import ROOT
from outrider.maths.sampling import UNCHANGED
from outrider.runtimes.growing import TreePlan, TreeRow

Answer = tuple[list[int], list[float]]  # the likeliest tokens, and their probabilities, falling
Answers = dict[tuple[int, ...], Answer]  # by the tokens that lead to a node


class HeadTrees:
    """Grows trees of the head on a device, where asking it about one node after another would wait for each answer.

    Args:
        shape: of the trees, how deep and how broad; other nodes are not asked about.
        told: how many tokens of an answer are looked at.
    """

    def __init__(self, texts: HeadTexts, shape: TreeShape, told: int, vocab_size: int) -> None:
        self._texts = texts
        self._told = told
        self._vocab_size = vocab_size
        known = isinstance(shape, StaticTree | DynamicTree)
        self._shape = DynamicTree(told, shape.depth, shape.beam) if known else None

    @property
    def branches(self) -> int:
        """Tentative entries of a tree."""
        return 0 if self._shape is None else self._shape.beam * (self._shape.depth - 1)

    def answers_for(self, sequence: DraftedSequence, draws: bool) -> bool:
        """Whether its questions are answered by a tree that grew: nothing is drawn from the answers or adjusted."""
        grows = self._shape is not None and self._texts.grows_out is not None
        return grows and not draws and not sequence.sampling.adjusts_logits

    def grow(
        self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget], made: Sequence[Array]
    ) -> list[Answers] | None:
        """The answers of the trees of these texts, in one read; None where there is no memory for them.

        Args:
            made: for each text what the head made of its newest entry, [1, hidden size].
        """
        entries, plan = self._texts.grows_out, self._plan(sequences, budgets)
        assert entries is not None
        if plan is None or not entries.can_grow(plan, self._vocab_size):
            return None
        states = made[0] if len(made) == 1 else concatenate(list(made))
        rows = [self._texts.row_of(sequence) for sequence in sequences]
        grown = entries.grow_trees(rows, states, plan, self._vocab_size)
        found = []
        for row in range(len(rows)):
            answers: Answers = {}
            replay(grown, row, _Noting(answers))
            found.append(answers)
        return found

    def _plan(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> TreePlan | None:
        assert self._shape is not None
        rows = []
        for sequence, budget in zip(sequences, budgets, strict=True):
            sampling = UNCHANGED if sequence.sampling.greedy else sequence.sampling
            keys = sequence.noise.tree(len(sequence.tokens))
            rows.append(TreeRow(sampling, True, keys, budget.nodes, min(budget.depth, self._shape.depth)))
        return plan_of(self._shape, rows)


class _Noting:
    """Takes down the children of every node, by the tokens that lead to it."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._paths: list[tuple[int, ...]] = []  # of candidates

    def __call__(self, node: int, tokens: list[int], probabilities: list[float], place: int) -> range:
        path = () if node == ROOT else self._paths[node]
        self._answers[path] = tokens, probabilities
        first = len(self._paths)
        self._paths += [(*path, token) for token in tokens]
        return range(first, len(self._paths))
