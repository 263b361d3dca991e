"""Rule `token` on trees whose tokens were chosen, not drawn: two reads for all rows.

Such a rejection only takes a token from the target's distribution (`maths.rules.token`), so that the host can walk with
one probability for each node, and the sum of each row. What is left is drawn from on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch

from outrider.maths.draft import ROOT, Draft, Verdict
from outrider.maths.noise import RoundNoise, uniform
from outrider.runtimes.torch.cuda.verdict import draw


class Walk(NamedTuple):
    """How far the target goes along with a draft, and the tokens that it rejects after that."""

    path: list[int]
    node: int
    rejected: list[int]


def token_on_chosen_trees(
    drafts: Sequence[Draft], p: torch.Tensor, good: torch.Tensor, noises: Sequence[RoundNoise]
) -> list[Verdict | None]:
    """The verdicts; None for drafts with a row that is not good.

    Args:
        p: float32 [sum of 1 + draft tokens, vocab].
        good: bool, of each row of p.
    """
    ends = list(accumulate(1 + len(draft) for draft in drafts))
    firsts = [end - 1 - len(draft) for end, draft in zip(ends, drafts, strict=True)]
    parents = [
        first + draft.parent(node) + 1 for first, draft in zip(firsts, drafts, strict=True) for node in _of(draft)
    ]
    tokens = [token for draft in drafts for token in draft.tokens]
    rows, columns = torch.from_numpy(np.array([parents, tokens], dtype=np.int64)).to(p.device)
    sums = p.sum(dim=-1, dtype=torch.float64)
    read = torch.cat([sums, good.double(), p[rows, columns].double()]).tolist()
    sums_read, good_read, of_tokens = read[: len(p)], read[len(p) : 2 * len(p)], iter(read[2 * len(p) :])
    walks = [
        _walk(draft, [next(of_tokens) for _ in _of(draft)], sums_read[first:end], noise)
        for draft, first, end, noise in zip(drafts, firsts, ends, noises, strict=True)
    ]
    following = _draw_after(walks, p, firsts, noises)
    return [
        Verdict(tuple(walk.path), token, bonus=not draft.children(walk.node)) if all(good_read[first:end]) else None
        for draft, walk, token, first, end in zip(drafts, walks, following, firsts, ends, strict=True)
    ]


def _of(draft: Draft) -> range:
    return range(len(draft))


def _walk(draft: Draft, p_of_tokens: Sequence[float], sums: Sequence[float], noise: RoundNoise) -> Walk:
    path: list[int] = []
    node = ROOT
    while True:
        left, rejected, accepted = sums[node + 1], list[int](), None
        for child in draft.children(node):
            token = draft.tokens[child]
            wanted = 0.0 if token in rejected else p_of_tokens[child]
            chance = wanted if not rejected else wanted / left if left > 0 else 0.0
            if noise.accept(noise.start + len(path), branch=child) < chance:
                accepted = child
                break
            left -= wanted
            rejected.append(token)
        if accepted is None:
            return Walk(path, node, rejected)
        path.append(accepted)
        node = accepted


def _draw_after(
    walks: Sequence[Walk], p: torch.Tensor, firsts: Sequence[int], noises: Sequence[RoundNoise]
) -> list[int]:
    """The next token of each row: from the target's distribution after the walk, without what it rejected."""
    count = len(walks)
    pairs = [(row, token) for row, walk in enumerate(walks) for token in walk.rejected]
    told = np.zeros(2 * (count + len(pairs)), dtype=np.int64)  # copied at once
    told[:count] = [first + walk.node + 1 for first, walk in zip(firsts, walks, strict=True)]
    told[count : 2 * count].view(np.float64)[:] = [
        uniform(noise.next(noise.start + len(walk.path))) for noise, walk in zip(noises, walks, strict=True)
    ]
    told[2 * count :] = np.array(pairs, dtype=np.int64).reshape(-1, 2).T.ravel()
    there = torch.from_numpy(told).to(p.device)
    target = p[there[:count]]
    weights = target.clone()
    weights[there[2 * count : 2 * count + len(pairs)], there[2 * count + len(pairs) :]] = 0.0
    found: list[int] = draw(weights, there[count : 2 * count].clone().view(torch.float64), target).tolist()
    return found
