"""The suffix drafter that proposes trees of continuations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outrider.drafters.base import DraftedSequence
from outrider.drafters.growth import Growth
from outrider.drafters.suffix.automaton import Cursor
from outrider.drafters.suffix.drafter import SuffixDrafter, longest_match
from outrider.drafters.suffix.memory import WIDEST, SuffixMemory
from outrider.drafters.suffix.shares import foreseen
from outrider.maths.arrays import Array, race_order
from outrider.maths.budget import Budget
from outrider.maths.draft import ROOT, Draft
from outrider.maths.noise import Key, RoundNoise, exponential_of_tokens


class SuffixTreeDrafter(SuffixDrafter):
    """Proposes all that followed earlier occurrences of the end of the text: a tree, the likeliest continuations first.

    `foreseen` estimates how likely each is.

    Args:
        greedy: take the likeliest continuations, each with a one-hot q. False draws them without replacement.
        min_survival: nodes that are accepted with an estimated probability below this are left out, before any is
            drawn; where the budget has prices, these decide instead.
        max_tokens, name, memory: as SuffixDrafter.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    trees = True

    def __init__(
        self,
        *,
        greedy: bool = True,
        min_survival: float = 0.03,
        max_tokens: int = 65_536,
        name: str = "suffix",
        memory: SuffixMemory | None = None,
    ) -> None:
        super().__init__(greedy=greedy, min_survival=min_survival, max_tokens=max_tokens, name=name, memory=memory)

    def _draft(self, sequence: DraftedSequence, budget: Budget, noise: RoundNoise) -> Draft:
        growth = Growth(budget, least=self._least(budget))
        if budget.longest <= 0:
            return growth.draft(self.name)
        text = self._texts.catch_up(sequence)
        automaton, match = longest_match(text)
        widest = None if automaton is text.automaton else WIDEST
        begins = foreseen(automaton, match, widest=widest).continuations if text.expectation is not None else []
        if (expected := self._expected(text, begins[0][1] if begins else 0.0, budget)) is not None:
            return expected
        chosen = self.greedy or sequence.sampling.greedy
        cursors: dict[int, Cursor] = {ROOT: match}
        level = [ROOT]
        while level:
            for node in level:
                followed = foreseen(automaton, cursors[node], widest=widest).continuations
                if not followed:
                    continue
                tokens, shares = [token for token, _, _ in followed], [share for _, share, _ in followed]
                if chosen:
                    children = growth.open(node, tokens, shares)
                else:
                    position = len(sequence.tokens) + len(growth.path(node))
                    drawn, q = self._draw_all(tokens, shares, noise.draft(position, branch=node + 1))
                    children = growth.open(node, drawn, shares, q)
                    tokens = drawn
                after = {token: cursor for token, _, cursor in followed}
                cursors.update(zip(children, (after[token] for token in tokens), strict=True))
            level = growth.next_level()
        return growth.draft(self.name)

    def _draw_all(self, tokens: Sequence[int], shares: Sequence[float], key: Key) -> tuple[list[int], Array]:
        """The tokens in the order of draws without replacement, and the distribution that they are drawn from."""
        candidates = np.array(tokens)
        weights = np.array(shares, dtype=np.float32)
        weights /= weights.sum()
        q = np.zeros(self._vocab_size, dtype=np.float32)
        q[candidates] = weights
        noise = exponential_of_tokens(key, candidates)
        return [tokens[index] for index in race_order(weights, noise, len(tokens))], q
