"""Checks of a decoder on real models."""

from outrider.check.against_plain import (
    Answer,
    Decode,
    Difference,
    LogitsAfter,
    Outcome,
    compare,
    first_difference,
    logits_of,
    outrider_greedy,
)

__all__ = [
    "Answer",
    "Decode",
    "Difference",
    "LogitsAfter",
    "Outcome",
    "compare",
    "first_difference",
    "logits_of",
    "outrider_greedy",
]
