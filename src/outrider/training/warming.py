"""From texts that a model wrote, and its whole vocabulary, to what a drafter starts with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from outrider.drafters.recycling.memory import RecyclingMemory
from outrider.drafters.recycling.state import DrafterState, state_of
from outrider.drafters.recycling.successors import KEPT
from outrider.training.shards import Text

UNBOUNDED = 1 << 40


class Warming:
    """A drafter's knowledge while it is made.

    Args:
        vocab_size: the width of the logits.
        tokenizer: the fingerprint.
    """

    def __init__(self, vocab_size: int, tokenizer: str) -> None:
        self._memory = RecyclingMemory(UNBOUNDED, vocab_size=vocab_size, tokenizer=tokenizer)
        self.tokenizer = tokenizer
        self.tokens = 0  # of answers

    def learn_tokens(self, tokens: Sequence[int], top: np.ndarray, probabilities: np.ndarray) -> None:
        """What follows single tokens, whatever came before them."""
        self._memory.learn([(None, token) for token in tokens], *_lists(top, probabilities))

    def learn_text(self, text: Text) -> None:
        """What the model expected in the place of each token of its answer."""
        places = range(text.prompt - 1, len(text.tokens) - 1)
        contexts = [(text.tokens[at - 1] if at else None, text.tokens[at]) for at in places]
        self._memory.learn(contexts, *_lists(text.top, text.probabilities))
        self.tokens += len(contexts)

    def state(self, most_pairs: int) -> DrafterState:
        """What is known so far; of contexts of two tokens at most so many, the most useful."""
        # The noise of these texts was drawn from seeds that no request has: what they taught is no experience.
        return replace(state_of(self._memory, most_pairs=most_pairs), experience=0)


def _lists(top: np.ndarray, probabilities: np.ndarray) -> tuple[list[list[int]], list[list[float]]]:
    return top[:, :KEPT].astype(np.int64).tolist(), probabilities[:, :KEPT].astype(np.float64).tolist()
