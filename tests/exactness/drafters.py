"""Drafters for the tests: trees, and the ones of the package by name."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from outrider import (
    Budget,
    Draft,
    DraftedSequence,
    Drafter,
    LookupDrafter,
    ModelDrafter,
    RecyclingMemory,
    RecyclingSource,
    SuffixDrafter,
    SuffixMemory,
    SuffixSource,
    TableModel,
)
from outrider.maths.arrays import race_order, top_of_logits
from outrider.maths.draft import ROOT
from outrider.maths.noise import exponential
from outrider.maths.sampling import adjust, distribution

DEEPEST = 2


class TreeDrafter(Drafter):
    """Draws up to `width` children of every node, without replacement, on two levels.

    The lookahead bounds the nodes, level by level; which nodes have children is known before these are drawn.
    """

    name = "tree"

    def __init__(self, model: TableModel, width: int) -> None:
        self.model = model
        self.width = width

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._draft(sequence, budget.longest) for sequence, budget in zip(sequences, budgets, strict=True)]

    def choose_children(self, q: np.ndarray, noise: np.ndarray, count: int) -> list[int]:
        return race_order(q, noise, count)

    def _draft(self, sequence: DraftedSequence, nodes: int) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        q: list[np.ndarray] = []
        q_rows: list[int] = []
        paths: dict[int, list[int]] = {ROOT: []}
        growing = [ROOT]
        while growing and len(tokens) < nodes:
            parent = growing.pop(0)
            path = paths[parent]
            logits = self.model.logits_after([*sequence.tokens, *path])[None]
            logits = adjust(logits, sequence.sampling, sequence.history, [path])
            distributed = distribution(logits, sequence.sampling)[0]
            key = sequence.noise.draft(len(sequence.tokens) + len(path), branch=parent + 1)
            noise = exponential([key], len(distributed), distributed)[0]
            count = min(self.width, nodes - len(tokens), np.count_nonzero(distributed))
            for child in self.choose_children(distributed, noise, count):
                if len(path) + 1 < DEEPEST:
                    growing.append(len(tokens))
                paths[len(tokens)] = [*path, child]
                tokens.append(child)
                parents.append(parent)
                q_rows.append(len(q))
            q.append(distributed)
        if not tokens:
            return Draft()
        return Draft(tuple(tokens), tuple(parents), np.stack(q), tuple(q_rows), source=self.name)


def suffix_drafter(greedy: bool) -> Drafter:
    suffix = pytest.importorskip("outrider.drafters.suffix.drafter")
    return suffix.SuffixDrafter(greedy=greedy)


def remembering_drafter() -> Drafter:
    """With a memory that is warm from the start, and of what it drafts for."""
    generator = random.Random(0)
    memory = SuffixMemory.of([generator.choices(range(3), k=6) for _ in range(20)])
    return SuffixDrafter(greedy=False, memory=memory)


def similar(target: TableModel, seed: int) -> TableModel:
    """A table that agrees with the target in part, as a draft model does."""
    other = TableModel.random(target.traits.vocab_size, target.order, spread=1.0, seed=seed)
    return TableModel(0.6 * target.table + other.table, name="draft")


def uninformative(target: TableModel) -> TableModel:
    return TableModel(np.zeros(target.traits.vocab_size), name="uninformative")


def memory_of(model: TableModel, memory: RecyclingMemory | None = None) -> RecyclingMemory:
    """What is known once a model was at every context of one token and of two, some of them often.

    Args:
        memory: that learns it; None is one that forgets nothing of it.
    """
    size = model.traits.vocab_size
    memory = RecyclingMemory(vocab_size=size) if memory is None else memory
    contexts = [(before, last) for before in range(size) for last in range(size)]
    tokens, probabilities = top_of_logits(np.array([model.logits_after(context) for context in contexts]), min(8, size))
    for _ in range(3):
        memory.learn(contexts, tokens.tolist(), probabilities.tolist())
    return memory


def lookups(memory: RecyclingMemory | None = None, *, trees: bool = True) -> LookupDrafter:
    return LookupDrafter([SuffixSource(), RecyclingSource(memory)], trees=trees)


DRAFTERS: dict[str, Callable[[TableModel, TableModel], Drafter]] = {
    "model": lambda target, draft: ModelDrafter(draft),
    "greedy-model": lambda target, draft: ModelDrafter(draft, greedy=True),
    "uninformative": lambda target, draft: ModelDrafter(uninformative(target)),
    "greedy-suffix": lambda target, draft: suffix_drafter(greedy=True),
    "suffix": lambda target, draft: suffix_drafter(greedy=False),
    "suffix-memory": lambda target, draft: remembering_drafter(),
    "tree-of-2": lambda target, draft: TreeDrafter(draft, 2),
    "tree-of-3": lambda target, draft: TreeDrafter(draft, 3),
    "lookups": lambda target, draft: lookups(trees=False),
}
