"""What a transformers folder says of experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.runtimes.native.description import Mixture, Unknown
from outrider.runtimes.native.mixture import PARTS, ExpertNames

MIXTURES = ("qwen3_moe",)  # model types
MLP = "model.layers.{}.mlp"
# Folders of the hub have a weight for each expert; transformers 5 joins them, and may keep them so.
EXPERTS = ExpertNames(
    router=(f"{MLP}.gate.weight",),
    fused=(f"{MLP}.experts.gate_up_proj",),
    stacked={"down": (f"{MLP}.experts.down_proj",)},
    single={part: (f"{MLP}.experts.{{}}.{part}_proj.weight",) for part in PARTS},
)


def mixture_of(config: Mapping[str, Any], kind: str, layers: int) -> Mixture:
    """The experts of a model; where transformers would decide by a default of its own, the model is refused.

    Raises:
        Unknown: config.json does not say what they are.
    """
    count, used = _count(config, "num_experts", "num_local_experts"), _count(config, "num_experts_per_tok")
    if used > count:
        raise Unknown(f"its config.json lets each token use {used} of {count} experts")
    normalised = config.get("norm_topk_prob")
    if not isinstance(normalised, bool):
        raise Unknown(f"its config.json says norm_topk_prob is {normalised!r}")
    step, plain = config.get("decoder_sparse_step", 1), config.get("mlp_only_layers") or []
    having = tuple(layer not in plain and (layer + 1) % step == 0 for layer in range(layers))
    return Mixture(count, used, _count(config, "moe_intermediate_size"), normalised, having)


def _count(config: Mapping[str, Any], *keys: str) -> int:
    """What the first of the keys says that is there."""
    key = next((key for key in keys if config.get(key) is not None), keys[0])
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Unknown(f"its config.json says {key} is {value!r}")
    return value
