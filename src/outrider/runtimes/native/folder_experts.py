"""What a transformers folder says of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.runtimes.native.description import Mixture, Unknown
from outrider.runtimes.native.mixture import PARTS, ExpertNames

# By the model type, which of its settings is the width of an expert.
MIXTURES = {
    "gpt_oss": "intermediate_size",
    "granitemoe": "intermediate_size",
    "mixtral": "intermediate_size",
    "olmoe": "intermediate_size",
    "qwen2_moe": "moe_intermediate_size",
    "qwen3_moe": "moe_intermediate_size",
}
MLP, SPARSE = "model.layers.{}.mlp", "model.layers.{}.block_sparse_moe"
# Folders of the hub have weights for each expert (Granite: for all); transformers 5 joins them, and may write them so.
EXPERTS = ExpertNames(
    router=(
        f"{MLP}.gate.weight",
        f"{SPARSE}.gate.weight",
        f"{SPARSE}.router.layer.weight",
        f"{SPARSE}.router.weight",
    ),
    fused=(f"{MLP}.experts.gate_up_proj", f"{SPARSE}.input_linear.weight", f"{SPARSE}.experts.gate_up_proj"),
    stacked={
        "down": (f"{MLP}.experts.down_proj", f"{SPARSE}.output_linear.weight", f"{SPARSE}.experts.down_proj"),
    },
    single={
        part: (f"{MLP}.experts.{{}}.{part}_proj.weight", f"{SPARSE}.experts.{{}}.{of_mixtral}.weight")
        for part, of_mixtral in zip(PARTS, ("w1", "w3", "w2"), strict=True)
    },
    shared={part: f"{MLP}.shared_expert.{part}_proj.weight" for part in PARTS},
    shared_gate=f"{MLP}.shared_expert_gate.weight",
)
# Those of gpt-oss lie otherwise: see folder_mxfp4.py.
APART = ExpertNames(
    (f"{MLP}.router.weight",), {}, single={part: (f"{MLP}.experts.{{}}.{part}_proj.weight",) for part in PARTS}
)


def mixture_of(config: Mapping[str, Any], kind: str, layers: int) -> Mixture:
    """The experts of a model; where transformers would decide by a default of its own, the model is refused.

    Raises:
        Unknown: config.json does not say what they are.
    """
    count, used = _count(config, "num_experts", "num_local_experts"), _count(config, "num_experts_per_tok")
    if used > count:
        raise Unknown(f"its config.json lets each token use {used} of {count} experts")
    inner = _count(config, MIXTURES[kind])
    if kind in ("mixtral", "granitemoe", "gpt_oss"):
        return Mixture(count, used, inner, True, (True,) * layers)
    normalised = config.get("norm_topk_prob")
    if not isinstance(normalised, bool):
        raise Unknown(f"its config.json says norm_topk_prob is {normalised!r}")
    if kind == "olmoe":
        return Mixture(count, used, inner, normalised, (True,) * layers)
    step, plain = config.get("decoder_sparse_step", 1), config.get("mlp_only_layers") or []
    having = tuple(layer not in plain and (layer + 1) % step == 0 for layer in range(layers))
    shared = _count(config, "shared_expert_intermediate_size") if kind == "qwen2_moe" else 0
    return Mixture(count, used, inner, normalised, having, shared)


def _count(config: Mapping[str, Any], *keys: str) -> int:
    """What the first of the keys says that is there."""
    key = next((key for key in keys if config.get(key) is not None), keys[0])
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Unknown(f"its config.json says {key} is {value!r}")
    return value
