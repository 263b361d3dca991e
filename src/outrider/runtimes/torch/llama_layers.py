"""The parts of a Llama-like model (Llama, Mistral, Qwen2, Qwen3), with the linears that share an input joined.

The lean passes on a CPU (fused_llama.py) and on a GPU (cuda/) are made of them.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch

from outrider.errors import ModelError
from outrider.runtimes.torch.linears import Build, Linear

SUPPORTED = {"llama", "mistral", "qwen2", "qwen3"}


@dataclass(frozen=True, slots=True)
class Norm:
    """Root-mean-square normalisation."""

    weight: torch.Tensor
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of the decoder."""

    input_norm: Norm
    queries_keys_values: Linear
    query_norm: Norm | None
    key_norm: Norm | None
    output: Linear
    mlp_norm: Norm
    gate_up: Linear
    down: Linear


@dataclass(frozen=True, slots=True)
class Shape:
    """What cannot be read off the weights.

    Attributes:
        epsilon: of the RMS norms.
    """

    layers: int
    heads: int
    key_heads: int
    head_size: int
    epsilon: float

    @classmethod
    def of(cls, model: Any) -> Shape:
        """Of a model of transformers."""
        config, decoder = model.config, model.model
        return cls(
            layers=len(decoder.layers),
            heads=int(config.num_attention_heads),
            key_heads=int(config.num_key_value_heads),
            head_size=int(decoder.layers[0].self_attn.head_dim),
            epsilon=float(decoder.norm.variance_epsilon),
        )


def is_llama_like(model: Any) -> bool:
    """Whether layers of this kind compute what a model of transformers computes, but for windows of attention."""
    config = model.config
    return (
        config.model_type in SUPPORTED
        and type(model).__name__.endswith("ForCausalLM")
        and getattr(config, "hidden_act", None) == "silu"
        and getattr(config, "is_causal", True) is True
        and set(getattr(config, "layer_types", None) or ()) <= {"full_attention", "sliding_attention"}
    )


def windows_of(config: Any) -> tuple[int | None, ...]:
    """For each layer how many tokens back a token sees, itself included; None is no limit."""
    heeded = config.model_type != "llama" and (config.model_type == "mistral" or config.use_sliding_window)
    window = getattr(config, "sliding_window", None) if heeded else None
    # Mistral's layers are all alike, whatever layer_types says.
    kinds = getattr(config, "layer_types", None) if config.model_type != "mistral" else None
    kinds = kinds or ["sliding_attention"] * config.num_hidden_layers
    return tuple(window if kind == "sliding_attention" and window else None for kind in kinds)


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    """Take the weights of a transformers model by their names; the model can no longer be run."""
    weights = {name: weight.detach() for name, weight in model.state_dict().items()}
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight = None  # type: ignore[assignment]
    return weights


class Weights:
    """Takes weights by name and makes layers of them; several threads may do so at once.

    Args:
        weights: by their names in transformers. They are taken out one by one, so that only a few exist twice at a
            time.
        build: lays out a linear.
        precision: the dtype of the weights before they are laid out.
        activations: the dtype of the norms.
        epsilon: of the norms.
        device: where the weights go; None leaves them where they are.
    """

    def __init__(
        self,
        weights: MutableMapping[str, torch.Tensor],
        build: Build,
        precision: torch.dtype,
        activations: torch.dtype,
        epsilon: float,
        device: torch.device | None = None,
    ) -> None:
        self._weights = weights
        self._build = build
        self._precision = precision
        self._activations = activations
        self._epsilon = epsilon
        self._device = device

    def find(self, name: str) -> torch.Tensor | None:
        weight = self._weights.pop(name, None)
        return None if weight is None else weight.to(device=self._device, dtype=self._precision)

    def take(self, name: str) -> torch.Tensor:
        """The weight.

        Raises:
            ModelError: there is none of this name.
        """
        weight = self.find(name)
        if weight is None:
            raise ModelError(f"the weights lack {name}: download the model again")
        return weight

    def norm(self, name: str) -> Norm:
        return Norm(self.take(f"{name}.weight").to(self._activations), self._epsilon)

    def linear(self, *names: str) -> Linear:
        """One linear for several that share an input; their outputs are joined in this order."""
        weights = [self.take(f"{name}.weight") for name in names]
        biases = [bias for bias in (self.find(f"{name}.bias") for name in names) if bias is not None]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        del weights
        return self._build(weight, torch.cat(biases) if biases else None)

    def head(self, embedding: torch.Tensor) -> Callable[[], Linear]:
        """What lays out the output head, which may share the weights of the embedding."""
        weight, bias = self.find("lm_head.weight"), self.find("lm_head.bias")
        return lambda: self._build(embedding if weight is None else weight, bias)

    def layer(self, number: int) -> Layer:
        at = f"model.layers.{number}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        normed = f"{attention}.q_norm.weight" in self._weights
        return Layer(
            input_norm=self.norm(f"{at}.input_layernorm"),
            queries_keys_values=self.linear(*(f"{attention}.{part}_proj" for part in "qkv")),
            query_norm=self.norm(f"{attention}.q_norm") if normed else None,
            key_norm=self.norm(f"{attention}.k_norm") if normed else None,
            output=self.linear(f"{attention}.o_proj"),
            mlp_norm=self.norm(f"{at}.post_attention_layernorm"),
            gate_up=self.linear(f"{mlp}.gate_proj", f"{mlp}.up_proj"),
            down=self.linear(f"{mlp}.down_proj"),
        )
