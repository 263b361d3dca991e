"""Is speculative greedy output, token for token, what plain decoding says?

Where it is not, the two tokens must be within rounding of each other: a forward pass over several tokens adds in
another order than several passes over one. The measure is the *logit margin*, by how much the reference's choice beats
the other token after the common beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from outrider.arrays import to_numpy
from outrider.decoder import SpeculativeDecoder
from outrider.models.base import Model, prefill
from outrider.sampling import SamplingParams

Decode = Callable[[Sequence[int], int], list[int]]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two outputs differ.

    Attributes:
        place: the index in the output, from 0.
        reference_token, other_token: what stands there; -1 where an output has ended.
        margin: the reference token's logit minus the other's, after the common beginning.
    """

    place: int
    reference_token: int
    other_token: int
    margin: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """One output held against its reference.

    Attributes:
        prompt: which one, from 0.
        reference, other: what was compared.
        tokens: how long the reference is.
        difference: None if all tokens are the same.
        passed: whether there is none, or one within the margin.
    """

    prompt: int
    reference: str
    other: str
    tokens: int
    difference: Difference | None
    passed: bool


def compare(
    prompts: Sequence[Sequence[int]],
    systems: dict[str, Decode],
    model: Model,
    *,
    max_tokens: int,
    margin: float,
) -> Iterator[list[Outcome]]:
    """Hold every system against the first one, prompt by prompt.

    Args:
        systems: by name; each returns the output for a prompt of token ids.
        model: computes the margins.
        margin: the largest logit margin that counts as rounding.
    """
    names = list(systems)
    for number, prompt in enumerate(prompts):
        outputs = {name: systems[name](prompt, max_tokens) for name in names}
        reference = outputs[names[0]]
        outcomes = []
        for name in names[1:]:
            difference = first_difference(model, prompt, reference, outputs[name])
            passed = difference is None or abs(difference.margin) < margin
            outcomes.append(Outcome(number, names[0], name, len(reference), difference, passed))
        yield outcomes


def first_difference(
    model: Model, prompt: Sequence[int], reference: Sequence[int], other: Sequence[int]
) -> Difference | None:
    """Where two outputs part, and by what margin; None if they are the same."""
    longest = max(len(reference), len(other))
    pairs = [(reference[i] if i < len(reference) else -1, other[i] if i < len(other) else -1) for i in range(longest)]
    place = next((i for i, (one, two) in enumerate(pairs) if one != two), None)
    if place is None:
        return None
    one, two = pairs[place]
    if -1 in (one, two):
        return Difference(place, one, two, float("inf"))
    logits = logits_after(model, [*prompt, *reference[:place]])
    return Difference(place, one, two, float(logits[one] - logits[two]))


def logits_after(model: Model, tokens: Sequence[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Logits [vocab] of what follows `tokens`, from a fresh prefill."""
    session = model.open(1, len(tokens))
    rest = prefill(session, 0, tokens)
    return to_numpy(session.extend([0], [rest], wanted=[1])[0]).astype(np.float64)


def outrider_greedy(decoder: SpeculativeDecoder) -> Decode:
    """Greedy decoding with Outrider."""

    def decode(prompt: Sequence[int], max_tokens: int) -> list[int]:
        return decoder.generate(prompt, max_tokens=max_tokens, sampling=SamplingParams(temperature=0)).tokens

    return decode
