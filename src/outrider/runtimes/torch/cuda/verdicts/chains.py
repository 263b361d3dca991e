"""The verdicts on chains, all rows at once, as operations of fixed shapes: nothing asks the host.

They are those of `maths/rules.py` with the same random numbers, which depend on no result and so come from the host.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from outrider.runtimes.torch.cuda.verdicts.draws import draw


@dataclass(frozen=True, slots=True)
class Chains:
    """Drafts of several rows, padded to the longest one.

    Attributes:
        first: int64 [rows], the row of p that predicts what follows the pending token; the next ones follow it.
        counts: int64 [rows], of draft tokens.
        tokens: int64 [rows, most].
        q_rows: int64 [rows, most], the row of q that a token was drawn from; negative where it was chosen.
        accept: float64 [rows, most], the uniform numbers that decide about the tokens.
        next: float64 [rows, most + 1], the uniform numbers of the next token after so many accepted ones.
    """

    first: torch.Tensor
    counts: torch.Tensor
    tokens: torch.Tensor
    q_rows: torch.Tensor
    accept: torch.Tensor
    next: torch.Tensor

    @property
    def most(self) -> int:
        return int(self.tokens.shape[1])

    def exists(self) -> torch.Tensor:
        """Whether a token is one of the draft, bool [rows, most]."""
        return torch.arange(self.most, device=self.counts.device) < self.counts[:, None]

    def rows_of_p(self) -> torch.Tensor:
        """The row of p that predicts each token, int64 [rows, most]; that of the pending token where there is none."""
        steps = torch.arange(self.most, device=self.counts.device)
        return self.first[:, None] + steps * self.exists()


Tensors = tuple[torch.Tensor, torch.Tensor]


def token_on_device(chains: Chains, p: torch.Tensor, q: torch.Tensor | None) -> Tensors:
    """Rejection sampling token by token, see `maths.rules.token`.

    Args:
        p: float32 [rows of all drafts, vocab].
        q: float32 [drawn tokens, vocab]; None where every token was chosen.

    Returns:
        (accepted, next token), int64 [rows] each.
    """
    p_of_token, q_of_token = _at_tokens(chains, p, q)
    stays = (chains.accept * q_of_token < p_of_token) & chains.exists()
    accepted = stays.long().cumprod(dim=-1).sum(dim=-1)
    target = p[chains.first + accepted]
    weights = _left_by(chains, accepted, target, target, q)
    return accepted, draw(weights, _number(chains, accepted), target)


def block_on_device(chains: Chains, p: torch.Tensor, q: torch.Tensor | None) -> Tensors:
    """Block verification, see `maths.rules.block`; arguments and results as of `token_on_device`."""
    reach = _reach(chains, *_at_tokens(chains, p, q))
    lengths = torch.arange(1, chains.most + 1, device=p.device)
    holds = (chains.accept < _hold(chains, p, q, reach)) & chains.exists()
    accepted = (lengths * holds).amax(dim=-1) if chains.most else torch.zeros_like(chains.counts)
    target = p[chains.first + accepted]
    reached = reach.gather(1, accepted[:, None]).float()
    weights = _left_by(chains, accepted, target, reached * target, q)
    return accepted, draw(weights, _number(chains, accepted), target)


def _at_tokens(chains: Chains, p: torch.Tensor, q: torch.Tensor | None) -> Tensors:
    """p and q of each draft token, float64 [rows, most]."""
    p_of_token = p[chains.rows_of_p(), chains.tokens].double()
    if q is None:
        return p_of_token, torch.ones_like(p_of_token)
    q_of_token = q[chains.q_rows.clamp(min=0), chains.tokens].double()
    return p_of_token, q_of_token.masked_fill(chains.q_rows < 0, 1.0)


def _left_by(
    chains: Chains, accepted: torch.Tensor, target: torch.Tensor, reached: torch.Tensor, q: torch.Tensor | None
) -> torch.Tensor:
    """What the target still wants after the first token that does not stay, as weights; all where every token stays.

    Args:
        reached: what q is subtracted from.
    """
    if not chains.most:
        return target
    at = accepted[:, None].clamp(max=chains.most - 1)
    tokens, q_rows = chains.tokens.gather(1, at), chains.q_rows.gather(1, at)
    rejected = (accepted < chains.counts)[:, None]
    without = target.scatter(1, tokens, 0.0)
    weights = torch.where(rejected, without, target)
    if q is None:
        return weights
    residual = (reached - q[q_rows[:, 0].clamp(min=0)]).clamp(min=0)
    return torch.where(rejected & (q_rows >= 0), residual, weights)


def _number(chains: Chains, accepted: torch.Tensor) -> torch.Tensor:
    return chains.next.gather(1, accepted[:, None])[:, 0]


def _reach(chains: Chains, p_of_token: torch.Tensor, q_of_token: torch.Tensor) -> torch.Tensor:
    """r of each prefix, float64 [rows, 1 + most]."""
    ratio = torch.where(q_of_token > 0, p_of_token / q_of_token, (p_of_token > 0).double())
    reach = [torch.ones_like(chains.next[:, 0])]
    for i in range(chains.most):
        reach.append((reach[-1] * ratio[:, i]).clamp(max=1.0))
    return torch.stack(reach, dim=1)


def _hold(chains: Chains, p: torch.Tensor, q: torch.Tensor | None, reach: torch.Tensor) -> torch.Tensor:
    """h of the prefixes of 1, 2, ... tokens, float64 [rows, most]."""
    if not chains.most:
        return reach[:, 1:]
    # The surplus of a prefix is that of p over q at the token after it.
    rows, tokens, q_rows = chains.rows_of_p()[:, 1:], chains.tokens[:, 1:], chains.q_rows[:, 1:]
    within = reach[:, 1:-1]
    surplus = (within * (1 - p[rows, tokens].double())).clamp(min=0)
    if q is not None and chains.most > 1:
        beyond = (p[rows] * within[..., None].float() - q[q_rows.clamp(min=0)]).clamp(min=0)
        surplus = torch.where(q_rows >= 0, beyond.sum(dim=-1).double(), surplus)
    total = surplus + 1 - within
    hold = torch.where(total > 0, surplus / total, 1.0)
    hold = torch.cat([hold, reach[:, -1:]], dim=1)
    lengths = torch.arange(1, chains.most + 1, device=p.device)
    return torch.where(lengths == chains.counts[:, None], reach[:, 1:], hold)
