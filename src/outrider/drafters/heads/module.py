"""The network of an EAGLE-3 head (arXiv 2503.01840, section 3.1; 3.1: the norms of vLLM's `fc_norm` and `norm_output`).

At position t it reads the target's hidden states at t, and the embedding of the token at t + 1, which the target has
not read yet. Its output predicts the token at t + 2. It also replaces the target's states at t + 1 where a draft goes
on from its own token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from outrider.drafters.heads.config import HeadConfig
from outrider.runtimes.torch.linears import Linear, build

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
LINEARS = ("fc", "qkv", "output", "gate_up", "down", "lm_head")


class Norm(nn.Module):
    """Root-mean-square normalisation, in the precision of what comes in."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self._epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self._epsilon)


class Eagle3(nn.Module):
    """The head, but for its attention, which training computes over whole texts and drafting over a KV cache.

    All arrays end with the size named; what stands before it is free.

    Attributes:
        config: the sizes.
    """

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.config = config
        size, heads = config.hidden_size, config.heads
        read = config.read_layers * config.target_hidden_size
        self.query_size, self.key_size = heads * config.head_size, config.key_heads * config.head_size
        self.fc = nn.Linear(read, size, bias=False)
        self.qkv = nn.Linear(2 * size, self.query_size + 2 * self.key_size, bias=False)
        self.output = nn.Linear(self.query_size, size, bias=False)
        self.gate_up = nn.Linear(size, 2 * config.inner, bias=False)
        self.down = nn.Linear(config.inner, size, bias=False)
        self.lm_head = nn.Linear(size, config.draft_vocab_size, bias=False)

        def norm(width: int) -> Norm:
            return Norm(width, config.epsilon)

        self.token_norm, self.state_norm, self.mlp_norm, self.norm = (norm(size) for _ in range(4))
        self.query_norm = norm(config.head_size) if config.normed_heads else None
        self.key_norm = norm(config.head_size) if config.normed_heads else None
        self.input_norm = norm(read) if config.norm_before_fc else None
        each = [norm(config.target_hidden_size) for _ in range(config.read_layers)]
        self.fc_norm = nn.ModuleList(each) if config.fc_norm else None

    def read(self, hidden: torch.Tensor) -> torch.Tensor:
        """The target's states of all layers, one after the other, as one state [.., hidden size]."""
        if self.input_norm is not None:
            hidden = self.input_norm(hidden)
        if self.fc_norm is not None:
            pieces = hidden.chunk(len(self.fc_norm), dim=-1)
            hidden = torch.cat([norm(piece) for norm, piece in zip(self.fc_norm, pieces, strict=True)], dim=-1)
        return self.fc(hidden)  # type: ignore[no-any-return]

    def forward(self, state: torch.Tensor, embedded: torch.Tensor, attend: Attend) -> torch.Tensor:
        """One layer.

        Args:
            state: [.., hidden size], of the target (`read`) or of the head's own step before (`passed_on`).
            embedded: [.., hidden size], of the token after it.
            attend: from queries [.., heads, head size], keys and values [.., key heads, head size] to what attention
                says [.., heads * head size]. It turns queries and keys.

        Returns:
            [.., hidden size].
        """
        config = self.config
        normed = self.state_norm(state)
        joined = self.qkv(torch.cat([self.token_norm(embedded), normed], dim=-1))
        queries, keys, values = joined.split([self.query_size, self.key_size, self.key_size], dim=-1)
        queries = queries.unflatten(-1, (config.heads, config.head_size))
        keys = keys.unflatten(-1, (config.key_heads, config.head_size))
        values = values.unflatten(-1, (config.key_heads, config.head_size))
        if self.query_norm is not None and self.key_norm is not None:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        x = (normed if config.norm_before_residual else state) + self.output(attend(queries, keys, values))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        made: torch.Tensor = x + self.down(nn.functional.silu(gate) * up)
        return made

    def passed_on(self, state: torch.Tensor) -> torch.Tensor:
        """What the next step goes on from."""
        return self.norm(state) if self.config.norm_output else state

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """Of the tokens that it can draft: [.., draft vocabulary], from what `forward` returned."""
        return self.lm_head(self.norm(state))  # type: ignore[no-any-return]

    def pack(self, kind: str) -> None:
        """Lay the weights out for drafting on a CPU; the head can no longer be trained or written.

        Args:
            kind: as of `linears.build`.
        """
        for name in LINEARS:
            weight = self.get_parameter(f"{name}.weight").detach()
            setattr(self, name, _Packed(build(kind, weight)))


class _Packed(nn.Module):
    """A linear of linears.py, which takes [tokens, inputs]."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self._linear = linear

    def forward(self, x: Any) -> Any:
        return self._linear(x)
