"""What the config.json of a draft head says, in both formats that EAGLE-3 heads come in.

The speculators format names itself (`speculators_model_type`) and keeps the sizes of the head's layer in
`transformer_layer_config`, without those that are defaults of transformers. The older format is a flat configuration
of a Llama, with a `draft_vocab_size`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from outrider.errors import ModelError
from outrider.runtimes.files.folder import SPECULATORS_TYPE
from outrider.runtimes.native.description import Rotary, Unknown, rotary_of

EAGLE3 = "eagle3"
AUXILIARY = 3  # layers of the target that a head reads, where nothing is said
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
# speculators leaves out what is a default of transformers for the kind of layer.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {
        "vocab_size": 32000,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
    },
    "qwen3": {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
    },
}
NOT_COMPUTED = ("attention_bias", "mlp_bias", "use_sliding_window", "quantization_config", "auto_map")


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """An EAGLE-3 head (arXiv 2503.01840, section 3).

    Attributes:
        vocab_size: of the target, as far as the head knows it.
        draft_vocab_size: how many tokens it can draft.
        hidden_size: of the head's own states.
        target_hidden_size: of the states that it reads.
        layers: the target's layers that it reads, as in `Features.hidden`, rising; empty is `layers_of` the target.
        inner: the width of the MLP.
        epsilon: of the RMS norms.
        longest: the longest text in tokens.
        normed_heads: whether queries and keys are normalised (Qwen3).
        norm_before_residual: whether the normalised state, not the state, is what the layer adds to.
        norm_before_fc: one norm over all states that are read.
        fc_norm: one norm for each of them (EAGLE-3.1).
        norm_output: whether the state that is passed on is normalised (EAGLE-3.1).
        rope: `rope_parameters`, with rope_theta and rope_type.
    """

    vocab_size: int
    draft_vocab_size: int
    hidden_size: int
    target_hidden_size: int
    layers: tuple[int, ...]
    inner: int
    heads: int
    key_heads: int
    head_size: int
    epsilon: float
    longest: int
    rope: Mapping[str, Any]
    normed_heads: bool = False
    norm_before_residual: bool = False
    norm_before_fc: bool = False
    fc_norm: bool = False
    norm_output: bool = False

    @property
    def read_layers(self) -> int:
        """How many layers of the target it reads."""
        return len(self.layers) or AUXILIARY

    @property
    def rotary(self) -> Rotary:
        """The rotary embedding of its layer.

        Raises:
            Unknown: it is of a kind that is not computed here.
        """
        return rotary_of(self.rope, self.head_size, self.longest)

    def reading(self, target_layers: int) -> HeadConfig:
        """The same, with its layers named.

        Args:
            target_layers: how many layers the target has.
        """
        return self if self.layers else replace(self, layers=layers_of(target_layers))


def layers_of(target_layers: int) -> tuple[int, ...]:
    """The layers that a head reads where its configuration names none: the choice of the authors and of vLLM."""
    chosen = {2, target_layers // 2, target_layers - 3}
    if len(chosen) == AUXILIARY and min(chosen) > 0:
        return tuple(sorted(chosen))
    raise ModelError(
        f"the head's config.json names no eagle_aux_hidden_state_layer_ids, and the target has {target_layers} layers: "
        "name the layers that it was trained with"
    )


def read_config(config: Mapping[str, Any], where: str) -> HeadConfig:
    """The configuration of an EAGLE-3 head.

    Args:
        where: names the file in messages.

    Raises:
        ModelError: it is of another kind, or needs something that is not computed here.
    """
    if SPECULATORS_TYPE in config:
        if config[SPECULATORS_TYPE] != EAGLE3:
            raise ModelError(f"{where} is of a {config[SPECULATORS_TYPE]} head: heads of type {EAGLE3} are read")
        layer = config.get("transformer_layer_config")
        if not isinstance(layer, dict) or layer.get("model_type") not in DEFAULTS:
            raise ModelError(f"{where} has no transformer_layer_config of model_type {' or '.join(DEFAULTS)}")
        if "norm_before_residual" not in config:
            raise ModelError(
                f"{where} does not say norm_before_residual, false to speculators and true to vLLM: add it"
            )
        return _config(config, {**DEFAULTS[layer["model_type"]], **layer}, config, where)
    eagle = config.get("eagle_config") or {}
    if eagle.get("use_aux_hidden_state") is False:
        raise ModelError(f"{where} says use_aux_hidden_state is false: heads that read several layers are computed")
    kind = config.get("model_type", "llama")
    if kind not in DEFAULTS:
        raise ModelError(f"{where} says model_type is {kind!r}: heads of {' and '.join(DEFAULTS)} are computed")
    plain = {key: DEFAULTS[kind][key] for key in ("rms_norm_eps", "rope_theta", "max_position_embeddings")}
    return _config({**config, **eagle}, {**plain, **config}, config, where)


def _config(options: Mapping[str, Any], layer: Mapping[str, Any], outer: Mapping[str, Any], where: str) -> HeadConfig:
    """From the options of the head and the sizes of its layer."""
    for key in SIZES:
        if not _is_count(layer.get(key)):
            raise ModelError(f"{where} says {key} is {layer.get(key)!r}: it must be a whole number above 0")
    if layer["num_hidden_layers"] != 1:
        raise ModelError(f"{where} is of a head of {layer['num_hidden_layers']} layers: heads of one are computed")
    if layer.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{where} says hidden_act is {layer['hidden_act']!r}: silu is computed")
    strange = next((key for key in NOT_COMPUTED if layer.get(key) or outer.get(key)), None)
    if strange is None and "sliding_attention" in (layer.get("layer_types") or ()):
        strange = "a sliding_attention layer"
    if strange is not None:
        raise ModelError(f"{where} has {strange}, which is not computed here: choose another head")
    if options.get("norm_before_fc") and options.get("fc_norm"):
        raise ModelError(f"{where} says both norm_before_fc and fc_norm: it is one or the other")
    layers = options.get("eagle_aux_hidden_state_layer_ids") or ()
    if not all(_is_count(each) for each in layers) or len(set(layers)) != len(layers):
        raise ModelError(f"{where} says eagle_aux_hidden_state_layer_ids is {layers!r}: they must be layers, above 0")
    found = HeadConfig(
        vocab_size=layer["vocab_size"],
        draft_vocab_size=options.get("draft_vocab_size") or layer["vocab_size"],
        hidden_size=layer["hidden_size"],
        target_hidden_size=options.get("target_hidden_size") or layer["hidden_size"],
        layers=tuple(sorted(layers)),
        inner=layer["intermediate_size"],
        heads=layer["num_attention_heads"],
        key_heads=layer.get("num_key_value_heads") or layer["num_attention_heads"],
        head_size=layer.get("head_dim") or layer["hidden_size"] // layer["num_attention_heads"],
        epsilon=float(layer["rms_norm_eps"]),
        longest=layer["max_position_embeddings"],
        rope=_rope(layer),
        normed_heads=layer.get("model_type") == "qwen3",
        norm_before_residual=bool(options.get("norm_before_residual", False)),
        norm_before_fc=bool(options.get("norm_before_fc", False)),
        fc_norm=bool(options.get("fc_norm", False)),
        norm_output=bool(options.get("norm_output", False)),
    )
    try:
        assert found.rotary is not None
    except Unknown as error:
        raise ModelError(f"{where} cannot be used: {error}; choose another head") from error
    return found


def _rope(layer: Mapping[str, Any]) -> dict[str, Any]:
    found = {**(layer.get("rope_scaling") or {}), **(layer.get("rope_parameters") or {})}
    found.setdefault("rope_theta", layer.get("rope_theta"))
    found.setdefault("rope_type", found.pop("type", "default"))
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
