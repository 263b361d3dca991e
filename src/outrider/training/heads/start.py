"""A head before training: sizes that suit the target, and weights that are no worse than chance."""

from __future__ import annotations

import torch

from outrider.drafters.heads.config import HeadConfig
from outrider.drafters.heads.module import Eagle3

HEAD_SIZE = 64
SPREAD = 2.0  # of the logits of a new head


def config_for(
    hidden_size: int, layers: int, vocab_size: int, draft_vocab_size: int, longest: int, inner: int | None = None
) -> HeadConfig:
    """An EAGLE-3.1 head as wide as the target."""
    size = next(size for size in (HEAD_SIZE, 32, 16, 8, 4, 2, 1) if hidden_size % size == 0)
    heads = hidden_size // size
    return HeadConfig(
        vocab_size=vocab_size,
        draft_vocab_size=draft_vocab_size,
        hidden_size=hidden_size,
        target_hidden_size=hidden_size,
        layers=read_layers(layers),
        inner=inner or 2 * hidden_size,
        heads=heads,
        key_heads=heads // 3 if heads % 3 == 0 else heads,
        head_size=size,
        epsilon=1e-5,
        longest=longest,
        rope={"rope_theta": 10000.0, "rope_type": "default"},
        fc_norm=True,
        norm_output=True,
    )


def read_layers(layers: int) -> tuple[int, ...]:
    """An early layer, one in the middle and the last one before the final norm is applied."""
    return tuple(sorted({max(layers // 8, 1) if layers > 1 else 0, layers // 2, layers - 1}))


def new_head(config: HeadConfig, embedding: torch.Tensor, ids: torch.Tensor, seed: int = 0) -> Eagle3:
    """The head passes the last of the states on that it reads, and says what the target's embedding is like it."""
    torch.manual_seed(seed)
    head = Eagle3(config)
    with torch.no_grad():
        torch.nn.init.normal_(head.fc.weight, std=0.02)
        size = config.target_hidden_size
        if size == config.hidden_size:
            head.fc.weight[:, -size:] += torch.eye(size)
        for linear in (head.output, head.down):
            torch.nn.init.normal_(linear.weight, std=0.02)
        if embedding.shape[1] == config.hidden_size:
            words = embedding[ids].float()
            head.lm_head.weight.copy_(words)
            head.norm.weight.fill_(SPREAD / max(float(words.std()) * size**0.5, 1e-6))
    return head
