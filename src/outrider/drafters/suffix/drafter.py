"""The suffix drafter: no model, only the text so far.

Where the end of the text occurred before, in the prompt, in the output, or in a text that the caller predicts, what
followed it there is proposed. Prompt lookup decoding (A. Saxena, 2023) does this with n-grams; the suffix automaton
finds the longest match whatever its length, as in SAM decoding (arXiv 2411.10666), and counts the alternatives, as in
suffix decoding (arXiv 2411.04975), from which the memory of earlier requests comes too (`memory.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.suffix.automaton import Cursor, SuffixAutomaton
from outrider.drafters.suffix.memory import SuffixMemory
from outrider.drafters.suffix.shares import NOVELTY
from outrider.drafters.suffix.texts import Text, Texts
from outrider.errors import SettingError, shown
from outrider.maths.arrays import Array, race
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.maths.noise import Key, RoundNoise, exponential_of_tokens
from outrider.values import require_flag, share, whole


class SuffixDrafter(Drafter):
    """Proposes what followed the longest earlier occurrence of the end of the text.

    Args:
        greedy: propose the most frequent continuation, with a one-hot q. False draws a continuation; q is how often
            each occurred.
        min_survival: drafting stops where the estimated probability that the whole draft is accepted would fall below
            this; 0 drafts as far as the budget goes. Where the budget has prices, these decide instead.
        max_tokens: how much text the automaton holds; when it is full it forgets the older half.
        name: what its tokens are attributed to.
        memory: of earlier requests. Where its match is longer than that in the text itself, it is copied from; the
            output of each text that ends is added, with the prompt if the memory is to hold prompts. Several drafters
            may share one.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    estimates = True

    def __init__(
        self,
        *,
        greedy: bool = True,
        min_survival: float = 0.15,
        max_tokens: int = 65_536,
        name: str = "suffix",
        memory: SuffixMemory | None = None,
    ) -> None:
        require_flag("greedy", greedy)
        if memory is not None and not isinstance(memory, SuffixMemory):
            raise SettingError(f"memory is {shown(memory)}: give a SuffixMemory, or None")
        self.greedy = greedy
        self.min_survival = share("min_survival", min_survival)
        self.max_tokens = whole("max_tokens", max_tokens, 0)
        self.name = name
        self.memory = memory
        self._remembered = SuffixMemory() if memory is None else memory
        self._vocab_size = 0
        self._texts = Texts(self._remembered.library, self.max_tokens, self._remembered)

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._texts.clear()

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for sequence, reading in zip(sequences, readings, strict=True):
            if reading.prefilled:
                self._texts.catch_up(sequence)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        with self._remembered.lock:
            experience = self._remembered.experience
            return [
                self._draft(sequence, budget, sequence.noise.knowing(experience)).knowing(experience)
                for sequence, budget in zip(sequences, budgets, strict=True)
            ]

    def forget(self, sequence: DraftedSequence) -> None:
        self._texts.forget(sequence)
        output = sequence.history.tokens
        if self.memory is not None and output:
            self.memory.add(sequence.tokens if self.memory.prompts else output)

    def _draft(self, sequence: DraftedSequence, budget: Budget, noise: RoundNoise) -> Draft:
        if budget.longest <= 0:
            return EMPTY
        greedy = self.greedy or sequence.sampling.greedy
        least = self._least(budget)
        survival = 1.0
        tokens: list[int] = []
        chances: list[float] = []
        q: list[np.ndarray] = []
        text = self._texts.catch_up(sequence)
        automaton, match = longest_match(text)
        cursor, followed = automaton.continued(match)
        first = followed[0][1] / (sum(count for _, count in followed) + NOVELTY / cursor.length) if followed else 0.0
        if (expected := self._expected(text, first, budget)) is not None:
            return expected
        while followed and len(tokens) < budget.longest:
            occurrences = sum(count for _, count in followed)
            likely = followed[0][1] if greedy else occurrences
            survival *= likely / (occurrences + NOVELTY / cursor.length)
            # Chances fall: where the first token does not pay, none does.
            if survival < least or not (tokens or budget.prices.pays(0, survival)):
                break
            if greedy:
                token = followed[0][0]
            else:
                # The decision to stop is made before a token is drawn: no drawn token is left out.
                if not budget.prices.pays(len(tokens), survival):
                    break
                row, token = self._draw(followed, noise.draft(len(sequence.tokens) + len(tokens)))
                q.append(row)
            tokens.append(token)
            chances.append(survival)
            longer = automaton.step(cursor, token)
            assert longer is not None  # the token is one that followed
            cursor, followed = longer, automaton.continuations(longer)
        kept = budget.prices.worthwhile(chances) if greedy else len(tokens)
        return Draft(
            tuple(tokens[:kept]), q=np.stack(q) if q else None, source=self.name, chances=tuple(chances[:kept])
        )

    def _expected(self, text: Text, likely: float, budget: Budget) -> Draft | None:
        """A draft of what the predicted text says next, as `Expectation.draft`."""
        if text.expectation is None:
            return None
        return text.expectation.draft(budget, likely, self._least(budget), self.name)

    def _least(self, budget: Budget) -> float:
        return 0.0 if budget.prices.totals else self.min_survival

    def _draw(self, followed: Sequence[tuple[int, int]], key: Key) -> tuple[Array, int]:
        """q over the vocabulary for one draft token, and the token drawn from it."""
        candidates = np.array([token for token, _ in followed])
        weights = np.array([count for _, count in followed], dtype=np.float32)
        weights /= weights.sum()
        q = np.zeros(self._vocab_size, dtype=np.float32)
        q[candidates] = weights
        winner = race(weights[None], exponential_of_tokens(key, candidates)[None])[0]
        return q, int(candidates[winner])


def longest_match(text: Text) -> tuple[SuffixAutomaton, Cursor]:
    """The match in the memory where it is longer than that in the text, both as far as something followed them."""
    own = text.automaton
    remembered = text.follower.cursors() if text.follower is not None else []
    if not remembered:
        return own, own.match
    automaton, longest = own, own.continued(own.match)[0]
    for other, match in remembered:
        if match.length <= longest.length:
            break
        continued, _ = other.continued(match)
        if continued.length > longest.length:
            automaton, longest = other, continued
    return automaton, longest
