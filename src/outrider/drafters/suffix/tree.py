"""The suffix drafter that proposes trees: continuations that compete."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outrider.drafters.base import DraftedSequence
from outrider.drafters.growth import Growth
from outrider.drafters.suffix.automaton import Cursor, SuffixAutomaton
from outrider.drafters.suffix.drafter import NOVELTY, SuffixDrafter
from outrider.maths.arrays import Array, race_order
from outrider.maths.budget import Budget
from outrider.maths.draft import ROOT, Draft
from outrider.maths.noise import exponential_of_tokens

MOST_CHILDREN = 4


class SuffixTreeDrafter(SuffixDrafter):
    """Proposes all that followed earlier occurrences of the end of the text: a tree, the likeliest continuations first.

    A match of length l that occurred N times, n of them followed by a token, gives that token the probability
    n / (N + NOVELTY / l). What is left is spread over the continuations of the next shorter match in the same way, and
    so on, as prediction by partial matching does (Cleary and Witten 1984).

    Args:
        greedy: take the likeliest continuations, each with a one-hot q. False draws them without replacement.
        min_survival: nodes that are accepted with an estimated probability below this are left out, before any is
            drawn; where the budget has prices, these decide instead.
        max_tokens, name: as SuffixDrafter.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    trees = True

    def __init__(
        self, *, greedy: bool = True, min_survival: float = 0.03, max_tokens: int = 65_536, name: str = "suffix"
    ) -> None:
        super().__init__(greedy=greedy, min_survival=min_survival, max_tokens=max_tokens, name=name)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._grow(sequence, budget) for sequence, budget in zip(sequences, budgets, strict=True)]

    def _grow(self, sequence: DraftedSequence, budget: Budget) -> Draft:
        growth = Growth(budget, least=self._least(budget))
        if budget.longest <= 0:
            return growth.draft(self.name)
        automaton = self._catch_up(sequence)
        chosen = self.greedy or sequence.sampling.greedy
        cursors: dict[int, Cursor] = {ROOT: automaton.match}
        level = [ROOT]
        while level:
            for node in level:
                followed = _continuations(automaton, cursors[node])
                if not followed:
                    continue
                tokens, shares = [token for token, _, _ in followed], [share for _, share, _ in followed]
                if chosen:
                    children = growth.open(node, tokens, shares)
                else:
                    position = len(sequence.tokens) + len(growth.path(node))
                    drawn, q = self._draw_all(tokens, shares, sequence, position, node)
                    children = growth.open(node, drawn, shares, q)
                    tokens = drawn
                after = {token: cursor for token, _, cursor in followed}
                cursors.update(zip(children, (after[token] for token in tokens), strict=True))
            level = growth.next_level()
        return growth.draft(self.name)

    def _draw_all(
        self, tokens: Sequence[int], shares: Sequence[float], sequence: DraftedSequence, position: int, node: int
    ) -> tuple[list[int], Array]:
        """The tokens in the order of draws without replacement, and the distribution that they are drawn from."""
        candidates = np.array(tokens)
        weights = np.array(shares, dtype=np.float32)
        weights /= weights.sum()
        q = np.zeros(self._vocab_size, dtype=np.float32)
        q[candidates] = weights
        noise = exponential_of_tokens(sequence.noise.draft(position, branch=node + 1), candidates)
        return [tokens[index] for index in race_order(weights, noise, len(tokens))], q


def _continuations(automaton: SuffixAutomaton, cursor: Cursor) -> list[tuple[int, float, Cursor]]:
    """The likeliest tokens after a match, likeliest first, each with its estimated probability and the longer match."""
    found: dict[int, tuple[float, Cursor]] = {}
    left = 1.0
    shorter: Cursor | None = cursor
    while shorter is not None and shorter.length > 0 and len(found) < MOST_CHILDREN:
        followed = [(token, count) for token, count in automaton.continuations(shorter) if token not in found]
        novelty = NOVELTY / shorter.length
        total = sum(count for _, count in followed) + novelty
        for token, count in followed:
            longer = automaton.step(shorter, token)
            assert longer is not None
            found[token] = left * count / total, longer
        left *= novelty / total
        shorter = automaton.shorter(shorter)
    ranked = sorted(found, key=lambda token: -found[token][0])[:MOST_CHILDREN]
    return [(token, *found[token]) for token in ranked]
