"""What rounded weights cost on a text that no model was rounded on: perplexity, and the KL divergence."""

from __future__ import annotations

import math
import pydoc_data.topics
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Model, Pass

WINDOW = 512  # tokens that are read at once, from an empty cache
UNSCORED = 64  # of them at the beginning, which have little context

LogProbabilities = np.ndarray[Any, np.dtype[np.float64]]


def held_out_text() -> str:
    """The topics of the Python language reference, which come with every CPython."""
    return "\n".join(pydoc_data.topics.topics.values())


def windows(tokens: list[int], count: int) -> Iterator[list[int]]:
    """`count` windows, spread over the text."""
    step = (len(tokens) - WINDOW) // count
    return (tokens[at : at + WINDOW] for at in range(0, step * count, step))


def log_probabilities(model: Model, tokens: list[int]) -> LogProbabilities:
    """Of what follows each scored token: [WINDOW - UNSCORED - 1, vocab]."""
    session = model.open(1, WINDOW)
    wanted = WINDOW - UNSCORED
    scored = session.extend(Pass([0], [tokens], wanted=[wanted]))
    scored.wait()
    logits = to_numpy(scored.logits)[:-1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


def compare_rounding(reference: Model, models: Mapping[str, Model], count: int) -> dict[str, tuple[float, float]]:
    """For the reference and each model: perplexity, and the mean KL divergence in nats from the reference."""
    assert reference.tokenizer is not None
    every = reference.tokenizer.encode(held_out_text())
    surprise, divergence = dict.fromkeys(["reference", *models], 0.0), dict.fromkeys(["reference", *models], 0.0)
    scored = 0
    for tokens in windows(list(every), count):
        following = np.array(tokens[UNSCORED + 1 :])
        places = np.arange(len(following))
        scored += len(following)
        expected = log_probabilities(reference, tokens)
        weights = np.exp(expected)
        surprise["reference"] -= expected[places, following].sum()
        for name, model in models.items():
            found = log_probabilities(model, tokens)
            surprise[name] -= found[places, following].sum()
            divergence[name] += (weights * (expected - found)).sum()
    return {name: (math.exp(surprise[name] / scored), divergence[name] / scored) for name in surprise}
