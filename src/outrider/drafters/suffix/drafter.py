"""The suffix drafter: no model, only the text so far.

Where the end of the text occurred before, in the prompt, in the output, or in a text that the caller predicts, what
followed it there is proposed. Prompt lookup decoding (A. Saxena, 2023) does this with n-grams; the suffix automaton
finds the longest match whatever its length, as in SAM decoding (arXiv 2411.10666), and counts the alternatives, as in
suffix decoding (arXiv 2411.04975).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.drafters.suffix.automaton import SuffixAutomaton
from outrider.errors import SettingError
from outrider.maths.arrays import Array, race
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.maths.noise import exponential_of_tokens

# The pseudo-count of tokens never seen behind a match of length 1 (additive smoothing): of N occurrences, n of them
# followed by the same token, that token comes again with probability n / (N + NOVELTY / length). Measured on greedy
# answers of SmolLM2 to questions of Spec-Bench, a single earlier occurrence of 1, 2, 4 or 8 matching tokens is right in
# 31, 52, 74 and 80 per cent of cases, which is about 2. But drafts come from the matches that look best, and these look
# better than they are (the winner's curse): with 3, fewer texts lose by drafting.
NOVELTY = 3.0


@dataclass(slots=True)
class _Text:
    """The automaton of one sequence, and how many of its tokens it holds."""

    automaton: SuffixAutomaton
    read: int = 0


class SuffixDrafter(Drafter):
    """Proposes what followed the longest earlier occurrence of the end of the text.

    Args:
        greedy: propose the most frequent continuation, with a one-hot q. False draws a continuation; q is how often
            each occurred.
        min_survival: drafting stops where the estimated probability that the whole draft is accepted would fall below
            this; 0 drafts as far as the budget goes. Where the budget has prices, these decide instead.
        max_tokens: how much text the automaton holds; when it is full it forgets the older half.
        name: what its tokens are attributed to.

    Raises:
        SettingError: min_survival is not within 0 to 1.
    """

    estimates = True

    def __init__(
        self, *, greedy: bool = True, min_survival: float = 0.15, max_tokens: int = 65_536, name: str = "suffix"
    ) -> None:
        if not 0 <= min_survival <= 1:
            raise SettingError(f"min_survival is {min_survival}: it must lie within 0 to 1")
        self.greedy = greedy
        self.min_survival = min_survival
        self.max_tokens = max_tokens
        self.name = name
        self._vocab_size = 0
        self._texts: dict[int, _Text] = {}

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._texts = {}

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for sequence, reading in zip(sequences, readings, strict=True):
            if reading.prefilled:
                self._catch_up(sequence)

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._chain(sequence, budget) for sequence, budget in zip(sequences, budgets, strict=True)]

    def forget(self, sequence: DraftedSequence) -> None:
        self._texts.pop(sequence.id, None)

    def _chain(self, sequence: DraftedSequence, budget: Budget) -> Draft:
        if budget.longest <= 0:
            return EMPTY
        automaton = self._catch_up(sequence)
        greedy = self.greedy or sequence.sampling.greedy
        least = self._least(budget)
        survival = 1.0
        tokens: list[int] = []
        chances: list[float] = []
        q: list[np.ndarray] = []
        cursor, followed = automaton.longest_continued()
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
                row, token = self._draw(followed, sequence, len(tokens))
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

    def _least(self, budget: Budget) -> float:
        return 0.0 if budget.prices.totals else self.min_survival

    def _draw(self, followed: Sequence[tuple[int, int]], sequence: DraftedSequence, index: int) -> tuple[Array, int]:
        """q over the vocabulary for the draft token with this index, and the token drawn from it."""
        candidates = np.array([token for token, _ in followed])
        weights = np.array([count for _, count in followed], dtype=np.float32)
        weights /= weights.sum()
        q = np.zeros(self._vocab_size, dtype=np.float32)
        q[candidates] = weights
        key = sequence.noise.draft(len(sequence.tokens) + index)
        winner = race(weights[None], exponential_of_tokens(key, candidates)[None])[0]
        return q, int(candidates[winner])

    def _catch_up(self, sequence: DraftedSequence) -> SuffixAutomaton:
        text = self._texts.get(sequence.id)
        if text is None:
            text = self._texts[sequence.id] = _Text(SuffixAutomaton(self.max_tokens))
            if sequence.predicted:
                text.automaton.extend(sequence.predicted)
                text.automaton.append_boundary()
        text.automaton.extend(sequence.tokens[text.read :])
        text.read = len(sequence.tokens)
        return text.automaton
