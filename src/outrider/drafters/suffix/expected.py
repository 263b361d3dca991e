"""The place of an output in a predicted text, aligned as a comparison of two files does.

A suffix alone says little after an edit: the end of a line, or its first words, stand in many places. The place tells
them apart. It is the one behind the last token that came as expected; after one that did not, it is the
next place from there on where the end of the output stands (speculative edits of code editors align in this way).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence

from outrider.maths.budget import Budget
from outrider.maths.draft import Draft

LONGEST = 16  # matched tokens that are told apart
NEAREST = 32  # places that are looked at after a token that was not expected
# By how many tokens came as expected before it: the chance that the next one does, as if seen in PRIOR tokens before.
CHANCES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.88, 0.9, 0.92, 0.93, 0.94, 0.95, 0.95, 0.96, 0.96, 0.97, 0.97)
PRIOR = 8.0


class Expectation:
    """The place of one output in one expected text.

    Args:
        tokens: that are expected.

    Attributes:
        matched: how many tokens before the place stand at the end of the output too; 0 where it has no place.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tuple(tokens)
        self._behind: dict[int, list[int]] = defaultdict(list)  # the places behind each token, rising
        for place, token in enumerate(self._tokens, start=1):
            self._behind[token].append(place)
        self._place = 0
        self._output: list[int] = []
        self._right = [PRIOR * chance for chance in CHANCES]
        self._tried = [PRIOR] * len(CHANCES)
        self.matched = 1 if self._tokens else 0  # an output is expected to begin at the beginning

    def follow(self, output: Sequence[int]) -> None:
        """Follow the output, which has grown since the last call."""
        for token in output[len(self._output) :]:
            self._append(token)

    def ahead(self, most: int) -> tuple[Sequence[int], list[float]]:
        """What is expected next: at most so many tokens, and the chance of each to come after all before it."""
        if not self.matched:
            return (), []
        tokens = self._tokens[self._place : self._place + most]
        chances: list[float] = []
        survival = 1.0
        for further in range(len(tokens)):
            known = min(self.matched + further, LONGEST)
            survival *= self._right[known] / self._tried[known]
            chances.append(survival)
        return tokens, chances

    def draft(self, budget: Budget, likely: float, least: float, source: str) -> Draft | None:
        """A draft of what is expected next; None where nothing is, or something less likely than what else there is.

        Args:
            likely: the chance of the token that would be drafted first otherwise. Where that one is drawn, it is the
                chance that was known before: the choice between two drafts must not depend on what was drawn.
            least: tokens with a smaller chance are left out.
            source: the name of the draft.
        """
        tokens, chances = self.ahead(budget.longest)
        if not chances or chances[0] < likely:
            return None
        kept = budget.prices.worthwhile([chance for chance in chances if chance >= least])
        return Draft(tuple(tokens[:kept]), source=source, chances=tuple(chances[:kept]))

    def _append(self, token: int) -> None:
        self._output.append(token)
        place = self._place
        if self.matched and place < len(self._tokens):
            known = min(self.matched, LONGEST)
            self._tried[known] += 1
            if self._tokens[place] == token:
                self._right[known] += 1
                self._place, self.matched = place + 1, self.matched + 1
                return
        self._find(token, place)

    def _find(self, token: int, before: int) -> None:
        """The place behind this token that most of the output leads to; of several the next one after `before`.

        So an unexpected line is taken for a replaced one. If it was added, the next unexpected token corrects the
        place.
        """
        places = self._behind.get(token, ())
        middle = bisect_right(places, before)
        nearby = (*places[middle : middle + NEAREST], *reversed(places[max(middle - NEAREST, 0) : middle]))
        self.matched = 0
        for place in nearby:
            matched = self._matching(place)
            if matched > self.matched:
                self._place, self.matched = place, matched

    def _matching(self, place: int) -> int:
        count = 0
        for back in range(1, min(place, len(self._output), LONGEST) + 1):
            if self._tokens[place - back] != self._output[-back]:
                break
            count = back
        return count
