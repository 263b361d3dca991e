"""Compares speculative greedy output with plain decoding, token for token.

Where they differ, the two tokens must be within rounding of each other: a forward pass over several tokens sums in
another order than several passes over one. The measure is the *logit margin*: the logit of the reference's token minus
that of the other one, after the common beginning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from outrider.api.decoder import SpeculativeDecoder
from outrider.maths.arrays import to_numpy
from outrider.maths.sampling import SamplingParams
from outrider.runtimes.base import Model, Pass, prefill

ENDED = -1  # stands for a token where an output has none

LogitsAfter = Callable[[Sequence[int]], np.ndarray[tuple[int], np.dtype[np.float64]]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A system's output for a prompt.

    Attributes:
        tokens: the output.
        drafted, accepted: how many draft tokens there were.
    """

    tokens: Sequence[int]
    drafted: int = 0
    accepted: int = 0


Decode = Callable[[Sequence[int], int], Answer]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two outputs differ.

    Attributes:
        place: the index in the output, from 0.
        reference_token, other_token: the tokens there; ENDED where an output has ended.
        margin: the reference token's logit minus the other's, after the common beginning; infinite if an output has
            ended.
    """

    place: int
    reference_token: int
    other_token: int
    margin: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """The comparison of one output with the reference.

    Attributes:
        prompt: its index, from 0.
        reference, other: the names of the systems.
        tokens: the length of the reference.
        drafted, accepted: draft tokens of the other system.
        difference: None if all tokens are the same.
        passed: whether there is no difference, or one within the margin.
    """

    prompt: int
    reference: str
    other: str
    tokens: int
    drafted: int
    accepted: int
    difference: Difference | None
    passed: bool


def compare(
    prompts: Sequence[Sequence[int]],
    systems: Mapping[str, Decode],
    logits_after: LogitsAfter,
    *,
    max_tokens: int,
    margin: float,
) -> Iterator[list[Outcome]]:
    """Compare every system with the first one, prompt by prompt.

    Args:
        systems: by name.
        logits_after: gives the logits for margins.
        margin: a logit margin below this counts as rounding.
    """
    reference_name, *others = systems
    for number, prompt in enumerate(prompts):
        reference = systems[reference_name](prompt, max_tokens)
        outcomes = []
        for name in others:
            answer = systems[name](prompt, max_tokens)
            difference = first_difference(logits_after, prompt, reference.tokens, answer.tokens)
            passed = difference is None or abs(difference.margin) < margin
            outcomes.append(
                Outcome(
                    prompt=number,
                    reference=reference_name,
                    other=name,
                    tokens=len(reference.tokens),
                    drafted=answer.drafted,
                    accepted=answer.accepted,
                    difference=difference,
                    passed=passed,
                )
            )
        yield outcomes


def first_difference(
    logits_after: LogitsAfter, prompt: Sequence[int], reference: Sequence[int], other: Sequence[int]
) -> Difference | None:
    """The first difference of two outputs; None if they are the same."""
    common = min(len(reference), len(other))
    place = next((i for i in range(common) if reference[i] != other[i]), common)
    one = reference[place] if place < len(reference) else ENDED
    two = other[place] if place < len(other) else ENDED
    if one == two:
        return None
    if ENDED in (one, two):
        return Difference(place, one, two, math.inf)
    logits = logits_after([*prompt, *reference[:place]])
    return Difference(place, one, two, float(logits[one] - logits[two]))


def logits_of(model: Model) -> LogitsAfter:
    """A function from a text to the logits [vocab] of its next token, by a fresh prefill each time."""

    def logits_after(tokens: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        session = model.open(1, len(tokens))
        rest = prefill(session, 0, tokens)
        return to_numpy(session.extend(Pass([0], [rest], wanted=[1])).logits[0]).astype(np.float64)

    return logits_after


def outrider_greedy(decoder: SpeculativeDecoder) -> Decode:
    """Greedy decoding with Outrider."""

    def decode(prompt: Sequence[int], max_tokens: int) -> Answer:
        generation = decoder.generate(prompt, max_tokens=max_tokens, sampling=SamplingParams(temperature=0))
        return Answer(generation.tokens, generation.stats.drafted, generation.stats.accepted)

    return decode
