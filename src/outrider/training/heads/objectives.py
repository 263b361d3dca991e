"""What a head is trained for. p is the target's distribution, q that of the head.

kl        forward KL: the cross entropy of q under p
accept    -log sum min(p, q), the logarithm of the chance that a drawn token is accepted
hybrid    l KL + (1 - l) TV with l = exp(-3 acceptance): KL while q is far off, total variation once it is near
          (arXiv 2602.23881)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from outrider.training.heads.batch import Step

Objective = Callable[[torch.Tensor, Step], torch.Tensor]
HYBRID = 3.0


def kl(log_q: torch.Tensor, step: Step) -> torch.Tensor:
    """[n]: up to the entropy of p, which does not depend on the head."""
    return -(step.chances * log_q.gather(1, step.likely)).sum(dim=1)


def overlap(log_q: torch.Tensor, step: Step) -> torch.Tensor:
    """[n]: sum min(p, q), over the tokens that the target finds likely."""
    return torch.minimum(step.chances, log_q.gather(1, step.likely).exp()).sum(dim=1)


def accept(log_q: torch.Tensor, step: Step) -> torch.Tensor:
    return -overlap(log_q, step).clamp_min(1e-6).log()


def hybrid(log_q: torch.Tensor, step: Step) -> torch.Tensor:
    accepted = overlap(log_q, step)
    share = torch.exp(-HYBRID * accepted.detach().mean())
    return share * kl(log_q, step) + (1 - share) * (1 - accepted)


OBJECTIVES: dict[str, Objective] = {"kl": kl, "accept": accept, "hybrid": hybrid}
