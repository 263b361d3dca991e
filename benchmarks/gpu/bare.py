"""A Llama model of PyTorch alone, for machines without transformers: the same names, numbers and rotations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional

THETA, EPSILON = 10_000.0, 1e-6


class Norm(nn.Module):
    """Root-mean-square normalisation."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.variance_epsilon = EPSILON

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)


class Rotary(nn.Module):
    """Rotations by position (arXiv 2104.09864)."""

    rope_type = "default"
    attention_scaling = 1.0
    inv_freq: torch.Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        powers = torch.arange(0, size, 2, dtype=torch.float32) / size
        self.register_buffer("inv_freq", THETA**-powers, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn [rows, heads, tokens, size]."""
        angles = torch.arange(x.shape[2], device=x.device)[:, None].float() * self.inv_freq
        cos, sin = (torch.cat([part, part], dim=-1).to(x.dtype) for part in (angles.cos(), angles.sin()))
        one, other = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-other, one], dim=-1) * sin


class Attention(nn.Module):
    """Grouped heads, each of which sees its own past."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        hidden, self.heads, self.key_heads = (
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
        )
        self.head_dim = hidden // self.heads
        self.q_proj = nn.Linear(hidden, hidden, bias=False)
        self.k_proj, self.v_proj = (nn.Linear(hidden, self.head_dim * self.key_heads, bias=False) for _ in range(2))
        self.o_proj = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        queries, keys, values = (
            made.view(*x.shape[:2], heads, self.head_dim).transpose(1, 2)
            for made, heads in (
                (self.q_proj(x), self.heads),
                (self.k_proj(x), self.key_heads),
                (self.v_proj(x), self.key_heads),
            )
        )
        found = functional.scaled_dot_product_attention(
            rotary(queries), rotary(keys), values, is_causal=True, enable_gqa=True
        )
        made: torch.Tensor = self.o_proj(found.transpose(1, 2).flatten(2))
        return made


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (
            nn.Linear(config.hidden_size, config.intermediate_size, bias=False) for _ in range(2)
        )
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return made


class Layer(nn.Module):
    """One layer of the decoder."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(config), Mlp(config)
        self.input_layernorm, self.post_attention_layernorm = (Norm(config.hidden_size) for _ in range(2))

    def forward(self, x: torch.Tensor, rotary: Rotary) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), rotary)
        made: torch.Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return made


class Decoder(nn.Module):
    """The layers, between the embedding and the last norm."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = Norm(config.hidden_size)
        self.rotary_emb = Rotary(config.hidden_size // config.num_attention_heads)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, self.rotary_emb)
        made: torch.Tensor = self.norm(x)
        return made


class LlamaForCausalLM(nn.Module):
    """As transformers' class of this name, as far as the sections ask it.

    Args:
        settings: as of transformers' LlamaConfig.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.config = SimpleNamespace(model_type="llama", hidden_act="silu", sliding_window=None, **settings)
        self.model = Decoder(self.config)
        self.lm_head = nn.Linear(self.config.hidden_size, self.config.vocab_size, bias=False)
        for weight in (each.weight for each in self.modules() if isinstance(each, nn.Linear | nn.Embedding)):
            weight.data.normal_(0, self.config.initializer_range)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> SimpleNamespace:
        """Logits [rows, tokens, vocabulary]; there is no cache."""
        return SimpleNamespace(logits=self.lm_head(self.model(input_ids)))

    def generate(self, ids: torch.Tensor, max_new_tokens: int, **_: Any) -> torch.Tensor:
        """Greedy, every token from the start."""
        for _step in range(max_new_tokens):
            ids = torch.cat([ids, self(ids).logits[:, -1:].argmax(dim=-1)], dim=1)
        return ids
