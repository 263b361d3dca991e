"""What tests of sessions compare: the truth is a fresh session that is fed a root path from the start, in one call."""

import random

import numpy as np

from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass

CAPACITY = 64
# How far a node's logits may lie from those of its own path decoded alone, in shares of the largest logit: some ten
# roundings of the precision. With a mask that leaks or positions that are off they differ by far more.
TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 8e-2, "int8": 1e-3}


def fresh(model, tokens, count=1):
    """Logits after the last `count` tokens, from a session that never saw anything else."""
    session = model.open(1, CAPACITY)
    return to_numpy(session.extend(Pass([0], [tokens], wanted=[count])).logits).astype(np.float64)


def same(found, expected):
    """Up to rounding: a token that sees one token too many, or sits one place off, differs by tenths."""
    np.testing.assert_allclose(to_numpy(found).astype(np.float64), expected, atol=2e-3, rtol=1e-3)


def text(model, length, seed=0):
    return [random.Random(seed * 1000 + i).randrange(model.traits.vocab_size) for i in range(length)]


def worst_node(model, seed=0):
    """The largest difference between a node's logits and those of its own path alone, over the largest logit."""
    parents = [-1, 0, 0, 1, -1, 4, 2, 4, 7, 3, 0]
    stem, tokens = text(model, 9, seed), text(model, len(parents), seed + 50)
    session = model.open(1, CAPACITY)
    session.extend(Pass([0], [stem], wanted=[0]))
    session.keep(0, range(len(stem)))
    found = to_numpy(session.extend(Pass([0], [tokens], [parents])).logits).astype(np.float64)
    paths = []
    for node, parent in enumerate(parents):
        paths.append([*(paths[parent] if parent >= 0 else []), tokens[node]])
    alone = np.concatenate([fresh(model, stem + path) for path in paths])
    return np.abs(found - alone).max() / np.abs(alone).max()
