"""Shapes on which the Triton kernel is compared with the reference.

`python -m runtimes.cuda.attention_cases` prints how far apart they are, one line a case. Under TRITON_INTERPRET=1 it
needs no GPU.
"""

import json
from dataclasses import dataclass

import torch

from outrider.runtimes.torch.cuda.attention import reference_attention
from outrider.runtimes.torch.cuda.sight import WORD, windowed, words_of

SLOTS, CAPACITY = 4, 300


@dataclass(frozen=True)
class Case:
    """What is attended to: rows of these many committed tokens, in slots of a shuffled order."""

    bases: tuple[int, ...]
    width: int
    heads: int = 2
    key_heads: int = 1
    size: int = 16
    dtype: torch.dtype = torch.float32
    tree: bool = False
    before: int = 0  # tentative tokens of earlier passes
    window: int = 0
    shares: int | None = None
    padding: int = 0  # of the last row, tokens that see no tentative token


CASES = {
    "one token": Case((37,), 1),
    "an empty slot": Case((0, 5), 3),
    "an empty slot and padding": Case((9, 0), 3, padding=2),
    "odd lengths": Case((1, 63, 130), 5, heads=4, key_heads=2),
    "several shares": Case((250, 3), 4, shares=5),
    "more shares than places": Case((2,), 2, shares=7),
    "a tree": Case((70, 11), 33, tree=True),
    "a tree beyond a word": Case((65,), 70, tree=True),
    "a tree of two words after others": Case((20,), 40, tree=True, before=50),
    "a window": Case((90, 7), 6, window=20, shares=3),
    "a window of one token": Case((90,), 3, window=1),
    "a window within a tree": Case((60, 0), 40, tree=True, window=4),
    "odd head size": Case((40,), 3, heads=6, key_heads=2, size=24),
    "three queries to a key head": Case((66,), 7, heads=9, key_heads=3, size=16),
    "bfloat16": Case((129, 40), 5, heads=4, key_heads=2, dtype=torch.bfloat16, shares=2),
    "float16": Case((129, 40), 5, heads=4, key_heads=2, dtype=torch.float16, shares=2),
}


def inputs(case: Case) -> dict[str, torch.Tensor]:
    """With NaN wherever nothing may be read."""
    random = torch.Generator().manual_seed(case.width)
    rows, kept = len(case.bases), case.before + case.width
    seen = torch.zeros(rows, kept, -(-kept // WORD) * WORD, dtype=torch.bool)
    for row in range(rows):
        for token in range(kept):
            parent = int(torch.randint(-1, token, (), generator=random)) if case.tree and token else token - 1
            if parent >= 0:
                seen[row, token] = seen[row, parent]
            seen[row, token, token] = True
    seen = seen[:, case.before :].clone()
    if case.padding:
        seen[-1, -case.padding :] = False
    slots = torch.randperm(SLOTS, generator=random)[:rows]
    shape = (SLOTS, CAPACITY, case.key_heads, case.size)
    keys, values = torch.full(shape, torch.nan), torch.full(shape, torch.nan)
    for row, base in enumerate(case.bases):
        for array in (keys, values):
            array[slots[row], : base + kept] = torch.randn(base + kept, *shape[2:], generator=random)
            unseen = base + torch.arange(kept)[~seen[row].any(dim=0)[:kept]]
            array[slots[row], unseen] = torch.nan
    queries = torch.randn(rows, case.width, case.heads, case.size, generator=random)
    bases, ancestors, oldest = torch.tensor(case.bases), words_of(seen), None
    if case.window:
        oldest, ancestors = windowed(bases, ancestors, case.window)
    arrays = {"queries": queries.to(case.dtype), "keys": keys.to(case.dtype), "values": values.to(case.dtype)}
    return {**arrays, "slots": slots, "bases": bases, "ancestors": ancestors, "oldest": oldest}


def distance(case: Case) -> float:
    """The largest difference between the kernel and the reference in float32."""
    from outrider.runtimes.torch.cuda.kernels import tree_attention

    given = inputs(case)
    exact = {name: x.float() if x is not None and x.is_floating_point() else x for name, x in given.items()}
    found = tree_attention(**given, shares=case.shares).float()
    return float((found - reference_attention(**exact)).abs().max())


if __name__ == "__main__":
    for name, case in CASES.items():
        print(json.dumps([name, distance(case)]), flush=True)
