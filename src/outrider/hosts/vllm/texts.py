"""Which text each row of vLLM's batch holds: rows have no names there, and texts move between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import History, SamplingParams

Tokens = np.ndarray[Any, np.dtype[np.int64]]
NOTHING_PLANNED = Budget(0, 0)


@dataclass(slots=True, eq=False)
class HostedText:
    """A request of vLLM as drafters see it (`DraftedSequence`).

    Attributes:
        sampling: greedy, so that drafts are deterministic: vLLM takes them as one-hot whatever its own settings are.
        budget, draft: those of the last step.
    """

    id: int
    tokens: list[int]
    history: History
    budget: Budget = NOTHING_PLANNED
    draft: Draft = EMPTY
    predicted: Sequence[int] = ()
    sampling: SamplingParams = field(default_factory=lambda: SamplingParams(temperature=0))
    isolation: None = None

    @property
    def noise(self) -> RoundNoise:
        return RoundNoise(0, len(self.tokens))

    def begins(self, tokens: Tokens) -> bool:
        """Whether these tokens continue the text, or are it."""
        known = len(self.tokens)
        # The newest tokens differ first where it is another text.
        return known <= len(tokens) and self.tokens[-1] == tokens[known - 1] and self.tokens == tokens[:known].tolist()

    def extend(self, tokens: Sequence[int]) -> None:
        self.tokens.extend(tokens)
        self.history.extend(tokens)


class Texts:
    """The texts in progress, found again by their tokens."""

    def __init__(self) -> None:
        self._by_row: dict[int, HostedText] = {}
        self._numbers = count()

    def assign(self, contents: Mapping[int, Tokens], emitted: Mapping[int, Sequence[int]]) -> Assignment:
        """Find the text of each row that emitted tokens in this step; one that nobody knows is opened.

        Args:
            contents: the tokens of these rows, those of this step included.
            emitted: those of this step, at least one each.
        """
        left = self._by_row
        found = {row: left.pop(row) for row in contents if row in left and left[row].begins(contents[row])}
        for row in contents.keys() - found.keys():  # vLLM moves texts to rows that have become free
            before = next((other for other, text in left.items() if text.begins(contents[row])), None)
            if before is not None:
                found[row] = left.pop(before)
        opened = {row: self._open(contents[row], len(emitted[row])) for row in contents.keys() - found.keys()}
        # A text that is not scheduled in this step stays, unless another one stands in its row.
        ended = [text for row, text in left.items() if row in contents]
        self._by_row = {row: text for row, text in left.items() if row not in contents} | found | opened
        return Assignment({row: self._by_row[row] for row in contents}, ended, not opened)

    def _open(self, content: Tokens, emitted: int) -> HostedText:
        before = content[: len(content) - emitted].tolist()
        return HostedText(next(self._numbers), before, History(before))


@dataclass(frozen=True, slots=True)
class Assignment:
    """The texts of a step.

    Attributes:
        texts: by row, as they were before the step.
        ended: those that are in no row any more.
        known: whether all texts were in progress before.
    """

    texts: Mapping[int, HostedText]
    ended: Sequence[HostedText]
    known: bool
