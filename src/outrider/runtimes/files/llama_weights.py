"""The weights that a Llama-like model must have, and their sizes, by what its config.json says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
SIZES = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers")
# config.json must name these where the model's own numbers are computed here: transformers has other defaults for each
# architecture.
REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "max_position_embeddings",
    "tie_word_embeddings",
)
OUTPUT = "lm_head.weight"
Size = dict[str, int]  # of a tensor, by what makes each of its dimensions


@dataclass(frozen=True, slots=True)
class LlamaWeights:
    """What the configuration says of each weight.

    Attributes:
        sizes: of each weight by its name in transformers.
        optional: weights that may be absent.
    """

    sizes: dict[str, Size]
    optional: frozenset[str]


def llama_weights(config: Mapping[str, Any]) -> LlamaWeights | None:
    """None for models of other kinds, and where a default of transformers decides."""
    if config.get("model_type") not in LLAMA_LIKE or not all(isinstance(config.get(name), int) for name in SIZES):
        return None
    words = {"vocab_size": config["vocab_size"]}
    hidden = {"hidden_size": config["hidden_size"]}
    sizes = {"model.embed_tokens.weight": words | hidden, "model.norm.weight": hidden, OUTPUT: words | hidden}
    layer = dict(_layer(config))
    for number in range(config["num_hidden_layers"]):
        sizes |= {f"model.layers.{number}.{name}": size for name, size in layer.items()}
    # Where the file does not say whether it shares its weights with the embedding, transformers decides.
    return LlamaWeights(sizes, frozenset() if config.get("tie_word_embeddings") is False else frozenset([OUTPUT]))


def _layer(config: Mapping[str, Any]) -> Iterator[tuple[str, Size]]:
    kind, heads = config["model_type"], config["num_attention_heads"]
    head = config.get("head_dim") or config["hidden_size"] // heads
    hidden, inner = {"hidden_size": config["hidden_size"]}, {"intermediate_size": config["intermediate_size"]}
    queries = {"num_attention_heads * head_dim": heads * head}
    keys = {"num_key_value_heads * head_dim": (config.get("num_key_value_heads") or heads) * head}
    yield "input_layernorm.weight", hidden
    yield "post_attention_layernorm.weight", hidden
    linears = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    for name, (outputs, inputs) in linears.items():
        yield f"{name}.weight", outputs | inputs
        if _has_bias(config, name):
            yield f"{name}.bias", outputs
    if kind == "qwen3":
        yield "self_attn.q_norm.weight", {"head_dim": head}
        yield "self_attn.k_norm.weight", {"head_dim": head}


def _has_bias(config: Mapping[str, Any], linear: str) -> bool:
    kind = config["model_type"]
    if linear.startswith("mlp"):
        return kind == "llama" and config.get("mlp_bias") is True
    if kind == "qwen2":
        return not linear.endswith("o_proj")
    return kind in ("llama", "qwen3") and config.get("attention_bias") is True
