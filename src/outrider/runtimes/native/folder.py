"""Reads what a transformers folder says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outrider.errors import first_line
from outrider.runtimes.base import stop_token_ids
from outrider.runtimes.files.folder import CONFIG, architecture_of, read_object
from outrider.runtimes.files.llama_weights import REQUIRED
from outrider.runtimes.native.building import Names
from outrider.runtimes.native.description import Description, Unknown, rotary_of
from outrider.runtimes.native.folder_experts import EXPERTS, MIXTURES, mixture_of

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "SmolLM3ForCausalLM": "smollm3",
    "MixtralForCausalLM": "mixtral",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3MoeForCausalLM": "qwen3_moe",
}
# Sizes that are the same in all layers here; other models give a list of them.
ONE_FOR_ALL = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)
NAMES = Names(
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
    {
        "attention_norm": "model.layers.{}.input_layernorm",
        "mlp_norm": "model.layers.{}.post_attention_layernorm",
        "query_norm": "model.layers.{}.self_attn.q_norm",
        "key_norm": "model.layers.{}.self_attn.k_norm",
        "query": "model.layers.{}.self_attn.q_proj",
        "key": "model.layers.{}.self_attn.k_proj",
        "value": "model.layers.{}.self_attn.v_proj",
        "output": "model.layers.{}.self_attn.o_proj",
        "gate": "model.layers.{}.mlp.gate_proj",
        "up": "model.layers.{}.mlp.up_proj",
        "down": "model.layers.{}.mlp.down_proj",
    },
    experts=EXPERTS,
)


def describe(folder: Path) -> Description:
    """The sizes of the model.

    Raises:
        Unknown: the native runtime does not compute this model.
        ModelError: a file of settings cannot be read.
    """
    config = read_object(folder / CONFIG)
    try:
        return _described(config, folder)
    except (TypeError, ValueError, KeyError, OverflowError, ZeroDivisionError) as error:
        raise Unknown(f"its config.json holds a value of the wrong kind ({first_line(error)})") from error


def _described(config: Mapping[str, Any], folder: Path) -> Description:
    lists = [key for key in ONE_FOR_ALL if isinstance(config.get(key), list)]
    if lists:
        raise Unknown(f"its config.json gives {lists[0]} for each layer")
    kind = _kind(config)
    layers, heads, hidden = (config[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    size = config.get("head_dim") or hidden // heads
    if kind in ("mistral", "qwen3") and config.get("head_dim") is None:
        raise Unknown("its config.json has no head_dim")
    parameters = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    parameters.setdefault("rope_theta", config.get("rope_theta"))
    if parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise Unknown("it turns a part of each head")
    generation = folder / "generation_config.json"
    stop = stop_token_ids(
        read_object(generation).get("eos_token_id") if generation.exists() else None, config.get("eos_token_id")
    )
    return Description(
        layers=layers,
        hidden=hidden,
        heads=heads,
        key_heads=config["num_key_value_heads"],
        head_size=size,
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        epsilon=float(config["rms_norm_eps"]),
        context_length=config["max_position_embeddings"],
        rotary=rotary_of(parameters, size, config["max_position_embeddings"]),
        windows=_windows(config, kind, layers),
        rotates=_rotates(config, kind, layers),
        tied=bool(config["tie_word_embeddings"]),
        stop=stop,
        mixture=mixture_of(config, kind, layers) if kind in MIXTURES else None,
    )


def _kind(config: Mapping[str, Any]) -> str:
    architecture = architecture_of(config)
    kind = ARCHITECTURES.get(architecture or "")
    if kind is None or config.get("model_type") != kind:
        raise Unknown(f"its architecture is {architecture}")
    missing = next((key for key in (*REQUIRED, "intermediate_size") if config.get(key) is None), None)
    if missing is not None:
        raise Unknown(f"its config.json has no {missing}")
    if config.get("hidden_act", "silu") != "silu":
        raise Unknown(f"its hidden_act is {config['hidden_act']}")
    strange = next((key for key in ("quantization_config", "auto_map", "mlp_bias") if config.get(key)), None)
    if strange is not None:
        raise Unknown(f"its config.json has {strange}")
    return kind


def _windows(config: Mapping[str, Any], kind: str, layers: int) -> tuple[int, ...]:
    """For each layer how many tokens a token sees; 0 is all."""
    window = config.get("sliding_window")
    if kind == "llama":
        return (0,) * layers
    if kind == "qwen3_moe" and not config.get("use_sliding_window"):
        return (0,) * layers
    if kind == "mixtral":
        return (int(window or 0),) * layers
    if kind in ("mistral", "qwen3_moe"):
        if "sliding_window" not in config:  # transformers has a default of its own
            raise Unknown("its config.json has no sliding_window")
        return (int(window or 0),) * layers
    types = config.get("layer_types")
    if not config.get("use_sliding_window") and "sliding_attention" not in (types or ()):
        return (0,) * layers
    if not isinstance(types, list) or len(types) != layers or not isinstance(window, int) or window < 1:
        raise Unknown("its config.json does not say which layers have a sliding window")
    return tuple(window if layer == "sliding_attention" else 0 for layer in types)


def _rotates(config: Mapping[str, Any], kind: str, layers: int) -> tuple[bool, ...]:
    if kind != "smollm3":
        return (True,) * layers
    rotates = config.get("no_rope_layers")  # 1 where there is rotation, despite the name
    if not isinstance(rotates, list) or len(rotates) != layers:
        raise Unknown("its config.json does not say which layers rotate")
    return tuple(bool(each) for each in rotates)
