"""A drafter that drafts nothing and writes down what the target thought of each token that it emitted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from outrider.drafters.base import DraftedSequence, Drafter, Reading
from outrider.maths.arrays import float32_on_host, to_numpy
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, Draft
from outrider.runtimes.base import Features


class Recorder(Drafter):
    """Records the target's most probable tokens before each emitted token; needs a lookahead above 0.

    Args:
        top: how many tokens.

    Attributes:
        tokens, probabilities: by sequence, one array [top] for each emitted token.
    """

    name = "recorder"

    def __init__(self, top: int) -> None:
        self.wants = Features(top=top)
        self.tokens: dict[int, list[np.ndarray]] = {}
        self.probabilities: dict[int, list[np.ndarray]] = {}

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [EMPTY] * len(sequences)

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for sequence, reading in zip(sequences, readings, strict=True):
            if reading.top is not None:
                self.tokens.setdefault(sequence.id, []).append(to_numpy(reading.top.tokens)[-1].astype(np.int32))
                probabilities = float32_on_host(reading.top.probabilities)[-1]
                self.probabilities.setdefault(sequence.id, []).append(probabilities.astype(np.float16))

    def take(self, sequence: int) -> tuple[np.ndarray, np.ndarray]:
        """What was recorded of a sequence [emitted, top], which is forgotten."""
        return np.stack(self.tokens.pop(sequence)), np.stack(self.probabilities.pop(sequence))

    def drop(self, sequence: int) -> None:
        """Forget what was recorded of a sequence, if anything was."""
        self.tokens.pop(sequence, None)
        self.probabilities.pop(sequence, None)
