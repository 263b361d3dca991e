"""How much of a predicted text came true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence


def appeared(predicted: Sequence[int], output: Sequence[int]) -> int:
    """How many tokens of a prediction appeared in the output, in their order: the longest common subsequence.

    The bits of one long number are the tokens of the prediction, so that a token of the output takes a few operations
    on it (Hyyrö 2004, "Bit-parallel LCS-length computation revisited").
    """
    places: dict[int, int] = defaultdict(int)
    for place, token in enumerate(predicted):
        places[token] |= 1 << place
    every = (1 << len(predicted)) - 1
    unmatched = every
    for token in output:
        found = unmatched & places.get(token, 0)
        unmatched = ((unmatched + found) | (unmatched - found)) & every
    return len(predicted) - unmatched.bit_count()
