"""What a model expects after every token of its vocabulary: the part of a drafter's knowledge that needs no text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from outrider.errors import InputError
from outrider.maths.arrays import float32_on_host, to_numpy
from outrider.runtimes.base import Features, Model, Pass

ROWS = 64
QUESTION, OPENING = "Please explain.", "Here is the"  # the middle of an answer, whatever it is about


def expectations(model: Model, top: int) -> Iterator[tuple[Sequence[int], np.ndarray, np.ndarray]]:
    """Every token once, in the middle of a sentence of an answer.

    Args:
        top: how many of the most probable next tokens are told.

    Yields:
        Tokens, ids [tokens, top] and probabilities float32 [tokens, top] of what follows them.
    """
    before = _opened(model)
    size = model.traits.vocab_size
    rows = min(ROWS, size)
    session = model.open(rows, len(before) + 1)
    if before:
        for row in range(rows):
            session.extend(Pass([row], [before], wanted=[0])).wait()
            session.keep(row, range(len(before)))
    for first in range(0, size, rows):
        tokens = list(range(first, min(first + rows, size)))
        used = list(range(len(tokens)))
        scored = session.extend(Pass(used, [[token] for token in tokens], features=Features(top=top).within(size)))
        scored.wait()
        assert scored.top is not None  # it was asked for
        yield tokens, to_numpy(scored.top.tokens).copy(), float32_on_host(scored.top.probabilities).copy()
        for row in used:
            session.truncate(row, len(before))


def _opened(model: Model) -> list[int]:
    tokenizer = model.tokenizer
    if tokenizer is None:
        return []
    opening = tokenizer.encode(OPENING)
    try:
        chat = tokenizer.encode_chat([{"role": "user", "content": QUESTION}])
    except InputError:
        chat = None
    return [*(chat or ()), *opening]
