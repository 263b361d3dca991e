"""A drafter of known acceptance: it knows the text, and is right as often as it is told to be."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from outrider import Budget, Draft, DraftedSequence, Drafter

# The chance that the next token is the draft model's first choice, its second, and so on.
SHARES = (0.60, 0.14, 0.06, 0.04, 0.02)
ROOT = -1


class Oracle(Drafter):
    """Grows trees best node first, as a draft model with these shares would.

    The rank of the right token is drawn for each place of the text, once: the drafter does not become better by being
    asked again.

    Args:
        text: the token at each place.
        trees: whether it drafts trees; otherwise chains of its first choices.
        shares: see SHARES.
    """

    name = "oracle"

    def __init__(self, text: Sequence[int], vocab_size: int, *, trees: bool, shares: Sequence[float] = SHARES) -> None:
        self.trees = trees
        self._text, self._vocab, self._shares = text, vocab_size, tuple(shares if trees else shares[:1])
        draws = np.random.default_rng(1).random(len(text))
        self._ranks = np.searchsorted(np.cumsum(shares), draws)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._tree(len(each.tokens), budget) for each, budget in zip(sequences, budgets, strict=True)]

    def _tree(self, start: int, budget: Budget) -> Draft:
        tokens: list[int] = []
        parents: list[int] = []
        # The next node is the likeliest: (-chance, parent, whether the parent is right, depth, rank).
        heap = [(-self._shares[0], 0, ROOT, True, 1, 0)] if budget.nodes and budget.depth else []
        count = 1
        while heap and len(tokens) < budget.nodes:
            chance, _, parent, right, depth, rank = heapq.heappop(heap)
            node, place = len(tokens), start + depth - 1
            fits = right and int(self._ranks[place]) == rank
            tokens.append(self._text[place] if fits else (self._text[place] + 1 + rank) % self._vocab)
            parents.append(parent)
            if rank + 1 < len(self._shares):
                sibling = chance * self._shares[rank + 1] / self._shares[rank]
                heapq.heappush(heap, (sibling, count, parent, right, depth, rank + 1))
            if depth < budget.depth and place + 1 < len(self._text):
                heapq.heappush(heap, (chance * self._shares[0], count + 1, node, fits, depth + 1, 0))
            count += 2
        return Draft(tuple(tokens), tuple(parents) if self.trees else None, source=self.name)
