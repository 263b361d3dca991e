"""Penalties and logit bias on the device: the host says which logits change, the device changes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from outrider.runtimes.judging import Case

Ints = np.ndarray[Any, np.dtype[np.int64]]


class Pairs(NamedTuple):
    """Rows and tokens whose logits change.

    Attributes:
        places: row * vocabulary + token.
        occurrences: of the token in the output, the path to the row included.
        seen: whether it occurs there or in the prompt.
        biases: float64, what is added.
    """

    places: Ints
    occurrences: Ints
    seen: Ints
    biases: np.ndarray[Any, np.dtype[np.float64]]


def pairs_of(cases: Sequence[Case], vocab_size: int) -> Pairs | None:
    """Those of all cases; None where no logit changes."""
    found = [
        pairs
        for case in cases
        if case.sampling.looks_back or case.sampling.logit_bias
        for pairs in _of_case(case, vocab_size)
    ]
    if not sum(len(pairs.places) for pairs in found):
        return None
    return Pairs(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _of_case(case: Case, vocab_size: int) -> list[Pairs]:
    """One for each row of the logits."""
    sampling, history, draft = case.sampling, case.history, case.draft
    touched = set(sampling.logit_bias)
    if sampling.looks_back:
        touched |= history.prompt | history.output.keys()
    base = np.array(sorted(token for token in touched if token < vocab_size), dtype=np.int64)
    known = base.tolist()
    counts = np.array([history.output[token] for token in known], dtype=np.int64)
    seen = np.array([token in history.prompt for token in known], dtype=np.int64) | (counts > 0)
    biases = np.array([sampling.logit_bias.get(token, 0.0) for token in known], dtype=np.float64)
    found = []
    for row in range(1 + len(draft)):
        path = Counter(draft.tokens[node] for node in draft.path(row - 1))
        occurrences, occurred, new = counts.copy(), seen.copy(), list[tuple[int, int]]()
        for token, count in path.items():
            place = int(np.searchsorted(base, token))
            if place < len(base) and base[place] == token:
                occurrences[place] += count
                occurred[place] = 1
            elif sampling.looks_back and token < vocab_size:
                new.append((token, count))
        first = (case.first + row) * vocab_size
        tokens, times = np.array(new, dtype=np.int64).reshape(-1, 2).T
        found.append(
            Pairs(
                first + np.concatenate([base, tokens]),
                np.concatenate([occurrences, times]),
                np.concatenate([occurred, np.ones_like(tokens)]),
                np.concatenate([biases, np.zeros(len(tokens))]),
            )
        )
    return found


def penalised(logits: torch.Tensor, sections: dict[str, torch.Tensor]) -> torch.Tensor:
    """As `maths.sampling.adjust` without processors: float32 [rows, vocab], a new tensor.

    Args:
        sections: places, occurrences, seen and biases as in `Pairs`, and float64 penalties [3, rows]: repetition,
            presence, frequency.
    """
    vocab_size = logits.shape[-1]
    places, occurrences = sections["places"], sections["occurrences"]
    repetition, presence, frequency = sections["penalties"][:, places // vocab_size]
    values = logits.reshape(-1)[places].double() + sections["biases"]
    factor = torch.where(values < 0, repetition, 1 / repetition)
    values = torch.where(sections["seen"] > 0, values * factor, values)
    values = values - (frequency * occurrences + presence * (occurrences > 0))
    return logits.reshape(-1).scatter(0, places, values.float()).view_as(logits)
