"""Rule `token` on trees, all rows at once, see `maths.rules.token`: a loop over siblings, and one over levels.

What a child is accepted with does not depend on what became of the tokens before it, but for its earlier siblings. So
it is computed for all nodes at once: first all first children, then all second ones, and so on. Then the walk down the
tree is a matter of a few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from outrider.runtimes.torch.cuda.verdicts.draws import draw, without

NONE = -1


@dataclass(frozen=True, slots=True)
class Trees:
    """Drafts of several rows. A *trial* is a child that is tried; rows are padded to the most trials.

    Attributes:
        first: int64 [rows], the row of p that predicts what follows the pending token.
        parents: int64 [rows, trials], the row of p that predicts what follows the parent; NONE for padding.
        nodes: int64 [rows, trials], the row of p that predicts what follows the child.
        tokens: int64 [rows, trials].
        q_rows: int64 [rows, trials], the row of q that the child was drawn from; NONE where it was chosen.
        order: int64 [rows, trials], how many siblings are tried before.
        accept: float64 [rows, trials], the uniform numbers that decide.
        next: float64 [rows, levels + 1], those of the next token after so many accepted ones.
        tried: int64 [siblings, rows of p], which trial comes so late among those of a parent, counted from 1 over
            all rows; 0 where it has no more.
    """

    first: torch.Tensor
    parents: torch.Tensor
    nodes: torch.Tensor
    tokens: torch.Tensor
    q_rows: torch.Tensor
    order: torch.Tensor
    accept: torch.Tensor
    next: torch.Tensor
    tried: torch.Tensor


def trees_on_device(trees: Trees, p: torch.Tensor, q: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The verdicts.

    Args:
        p: float32 [rows of p, vocab].
        q: float32 [rows of q, vocab]; None where every token was chosen.

    Returns:
        (the row of p at which each row ends, the next token), int64 [rows] each.
    """
    if q is None:
        stays = _of_chosen(trees, p)
        target = weights = p
    else:
        stays, target, weights = _of_drawn(trees, p, q)
    end, accepted = _walk(trees, stays)
    left = weights[end]
    if q is None:
        left = without(left, trees.tokens, trees.parents == end[:, None])
    number = trees.next.gather(1, accepted[:, None])[:, 0]
    return end, draw(left, number, target[end])


def _walk(trees: Trees, stays: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Down the tree, along the first child of each node that stays: where it ends, and after how many tokens."""
    earlier = _earlier(trees)
    taken = stays & ~(earlier & stays[:, None, :]).any(dim=-1)
    at, accepted = trees.first, torch.zeros_like(trees.first)
    for _ in range(trees.next.shape[1] - 1):
        hit = taken & (trees.parents == at[:, None])
        moved = hit.any(dim=-1)
        at = torch.where(moved, (hit * trees.nodes).sum(dim=-1), at)
        accepted = accepted + moved
    return at, accepted


def _earlier(trees: Trees) -> torch.Tensor:
    """Whether trial j is a sibling that is tried before trial i, bool [rows, i, j]."""
    siblings = trees.parents[:, :, None] == trees.parents[:, None, :]
    return siblings & (trees.order[:, None, :] < trees.order[:, :, None])


def _of_chosen(trees: Trees, p: torch.Tensor) -> torch.Tensor:
    """Whether each trial stays, were it reached, bool [rows, trials]: a rejection only takes a token from p."""
    parents = trees.parents.clamp(min=0)
    wanted = p[parents, trees.tokens].double()
    earlier = _earlier(trees)
    again = (earlier & (trees.tokens[:, :, None] == trees.tokens[:, None, :])).any(dim=-1)
    wanted = wanted.masked_fill(again, 0.0)
    whole = p.sum(dim=-1, dtype=torch.float64)[parents]
    left = whole - (earlier * wanted[:, None, :]).sum(dim=-1)
    share = torch.where(left > 0, wanted / left, 0.0)
    chance = torch.where(earlier.any(dim=-1), share, wanted)
    return (trees.accept < chance) & (trees.parents >= 0)


def _of_drawn(trees: Trees, p: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Whether each trial stays, were it reached; and for each row of p the last target of its children, and what is
    left of it after all of them, [rows of p, vocab] each."""
    tokens, q_rows = trees.tokens.flatten(), trees.q_rows.flatten()
    accept = trees.accept.flatten()
    stays = torch.zeros_like(tokens, dtype=torch.bool)
    target = weights = p
    before = list[tuple[torch.Tensor, torch.Tensor]]()  # token and row of q of the earlier siblings, [rows of p, 1]
    for place in range(trees.tried.shape[0]):
        trial = trees.tried[place] - 1
        exists, at = (trial >= 0)[:, None], trial.clamp(min=0)
        token, q_row = tokens[at][:, None], q_rows[at][:, None]
        drawn = q_row >= 0
        distribution = q[q_row[:, 0].clamp(min=0)]
        if place:
            total = weights.sum(dim=-1, keepdim=True)
            target = torch.where(exists & (total > 0), weights / total, target)
            distribution = _without_siblings(distribution, q_row, before)
        p_of_token = target.gather(1, token)
        q_of_token = torch.where(drawn, distribution.gather(1, token), 1.0)
        stay = accept[at][:, None] * q_of_token.double() < p_of_token.double()
        # Trials that do not exist write to no place: they are sent to the end of an array that is one longer.
        longer = torch.cat([stays, stays[:1]])
        longer = longer.scatter(0, torch.where(exists[:, 0], trial, len(stays)), stay[:, 0])
        stays = longer[:-1]
        residual = (target - distribution).clamp(min=0)
        lost = torch.where(drawn, residual, target.scatter(1, token, 0.0))
        weights = torch.where(exists, lost, weights)
        before.append((token, torch.where(exists, q_row, NONE)))
    return stays.view_as(trees.tokens), target, weights


def _without_siblings(
    distribution: torch.Tensor, q_row: torch.Tensor, before: list[tuple[torch.Tensor, torch.Tensor]]
) -> torch.Tensor:
    """q without the earlier siblings that were drawn from it, renormalised where there were any and something is
    left."""
    others = torch.cat([row for _, row in before], dim=1)
    same = (others == q_row) & (others >= 0)
    left = without(distribution, torch.cat([token for token, _ in before], dim=1), same)
    total = left.sum(dim=-1, keepdim=True)
    return torch.where(same.any(dim=-1, keepdim=True) & (total > 0), left / total, left)
