"""Reads what a transformers folder says of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from outrider.errors import first_line
from outrider.runtimes.base import stop_token_ids
from outrider.runtimes.files.folder import CONFIG, architecture_of, read_object
from outrider.runtimes.files.llama_weights import REQUIRED
from outrider.runtimes.native.building import Names
from outrider.runtimes.native.description import LONGEST, NO_ROTATION, Description, Rotary, Unknown, longrope, rotary_of
from outrider.runtimes.native.families import (
    FAMILIES,
    FULL,
    GATE_UP,
    LINEARS,
    QUERY_KEY_VALUE,
    ROTATIONS,
    SLIDING,
    Family,
)
from outrider.runtimes.native.folder_experts import MIXTURES, mixture_of
from outrider.runtimes.native.folder_mxfp4 import ExpertsApart
from outrider.runtimes.native.folder_wrapped import TextPart, is_wrapped, text_part
from outrider.runtimes.native.weights import MXFP4, SafetensorsSource, Source

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
PARTIAL = ("glm4",)
LONGROPES = ("longrope", "su", "yarn")  # the last are what Phi called it before
# Whose linears have biases unless config.json says otherwise, whose have none, and whose MLPs may have some.
BIASED, UNBIASED = ("gpt_oss", "glm4", "seed_oss"), ("mistral", "mixtral", "phi3", "ministral3", "exaone4")
WITH_MLP_BIAS = ("llama", "granite", "smollm3", "seed_oss")
HEED_LAYER_TYPES = ("qwen2", "qwen3", "qwen2_moe", "smollm3")
STRANGE = ("quantization_config", "auto_map", "use_bidirectional_attention")


def names_of(folder: Path) -> Names:
    """What its files call the weights; see `describe`."""
    config = text_part(read_object(folder / CONFIG))
    family = _family(config)
    return replace(family.names, biased=_biased(config, family.kind))


def _biased(config: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The parts that transformers gives a bias."""
    if kind.startswith("qwen2"):
        return tuple(QUERY_KEY_VALUE) if kind == "qwen2" or config.get("qkv_bias", True) else ()
    if kind == "ernie4_5":
        return tuple(LINEARS) if config.get("use_bias") else ()
    found = list(GATE_UP | {"down": ""}) if kind in WITH_MLP_BIAS and config.get("mlp_bias") else []
    if kind not in UNBIASED and config.get("attention_bias", kind in BIASED):
        found += [*QUERY_KEY_VALUE, *(["output"] if kind not in ("glm4", "seed_oss") else [])]
    return (*found, "output") if kind == "seed_oss" and config.get("attention_out_bias") else tuple(found)


def source_of(folder: Path, weights: SafetensorsSource) -> Source:
    """Its weights under the names that `names_of` gives; see `describe`."""
    config = read_object(folder / CONFIG)
    if is_wrapped(config):
        return TextPart(weights)
    return ExpertsApart(weights) if _family(config).method == MXFP4 else weights


def describe(folder: Path) -> Description:
    """The sizes of the model.

    Raises:
        Unknown: the native runtime does not compute this model.
        ModelError: a file of settings cannot be read.
    """
    config = read_object(folder / CONFIG)
    try:
        return _described(text_part(config), folder)
    except (TypeError, ValueError, KeyError, OverflowError, ZeroDivisionError, AttributeError) as error:
        raise Unknown(f"its config.json holds a value of the wrong kind ({first_line(error)})") from error


def _described(config: Mapping[str, Any], folder: Path) -> Description:
    lists = [key for key in ONE_FOR_ALL if isinstance(config.get(key), list)]
    if lists:
        raise Unknown(f"its config.json gives {lists[0]} for each layer")
    family = _family(config)
    kind, config = family.kind, {**family.defaults, **config}
    _check(config, family)
    layers, heads, hidden = (config[key] for key in ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    size = config.get("head_dim") or hidden // heads
    if kind in ("mistral", "qwen3") and config.get("head_dim") is None:
        raise Unknown("its config.json has no head_dim")
    windows, types = _windows(config, family, layers)
    longest = config["max_position_embeddings"]
    rotaries, rotations = _rotations(config, kind, types, size)
    length = _length_of_phi(config) if kind == "phi3" else longest
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
        context_length=min(length, longest),
        rotaries=rotaries,
        windows=windows,
        rotations=rotations,
        tied=bool(config["tie_word_embeddings"]),
        stop=stop,
        stated_length=longest if length < longest else 0,
        mixture=mixture_of(config, kind, layers) if kind in MIXTURES else None,
        **family.apart(config),
    )


def _family(config: Mapping[str, Any]) -> Family:
    architecture = architecture_of(config)
    family = FAMILIES.get(architecture or "")
    if family is None or config.get("model_type") != family.kind:
        raise Unknown(f"its architecture is {architecture}")
    return family


def _check(config: Mapping[str, Any], family: Family) -> None:
    missing = next((key for key in (*REQUIRED, "intermediate_size") if config.get(key) is None), None)
    if missing is not None:
        raise Unknown(f"its config.json has no {missing}")
    activation = config.get(family.activation_key, family.activations[0])
    if activation not in family.activations:
        raise Unknown(f"its {family.activation_key} is {activation}")
    quantised = config.get("quantization_config") or {}
    known = {"auto_map": family.names_code, "quantization_config": quantised.get("quant_method") == family.method}
    strange = next((key for key in STRANGE if config.get(key) and not known.get(key)), None)
    if strange is not None:
        raise Unknown(f"its config.json has {strange}")
    if config.get("is_causal", True) is not True:
        raise Unknown("its tokens see those behind them")
    if family.kind == "mistral" and "layer_types" in config:  # transformers takes it for Ministral
        raise Unknown("its config.json has layer_types")


def _windows(config: Mapping[str, Any], family: Family, layers: int) -> tuple[tuple[int, ...], list[str]]:
    """For each layer how many tokens a token sees, 0 for all; and its kind."""
    window, types = config.get("sliding_window"), config.get("layer_types")
    if family.window_every:
        every = family.window_every
        if family.kind == "gemma3_text":  # others have no name for it in transformers
            every = config.get("sliding_window_pattern", every)
        if types is None:
            types = [FULL if (layer + 1) % every == 0 else SLIDING for layer in range(layers)]
    elif family.slides and (family.kind != "qwen3_moe" or config["use_sliding_window"]):
        if "sliding_window" not in config:  # transformers has a default of its own
            raise Unknown("its config.json has no sliding_window")
        types = [SLIDING if window else FULL] * layers
    elif family.kind == "llama" or (not config.get("use_sliding_window") and SLIDING not in (types or ())):
        types = [FULL] * layers
    elif family.kind not in HEED_LAYER_TYPES:  # transformers reads no layer_types there
        raise Unknown("its config.json gives layers a sliding window")
    if not isinstance(types, list) or len(types) != layers or not {*types} <= {SLIDING, FULL}:
        raise Unknown("its config.json does not say which layers have a sliding window")
    if SLIDING in types and (not isinstance(window, int) or window < 1):
        raise Unknown(f"its sliding_window is {window}")
    return tuple(min(int(window or 0), LONGEST) if each == SLIDING else 0 for each in types), types


def _rotations(
    config: Mapping[str, Any], kind: str, types: list[str], size: int
) -> tuple[tuple[Rotary, ...], tuple[int, ...]]:
    """The rotary embeddings, and which of them each layer takes."""
    stated, scaling = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    longest = config["max_position_embeddings"]
    if kind == "phi3":
        return (_rotation_of_phi(config, size, longest),), (0,) * len(types)
    if kind not in ROTATIONS:
        parameters = {"rope_theta": config.get("rope_theta"), **(scaling or stated)}  # transformers takes one
        if kind == "hunyuan_v1_dense" and parameters.get("alpha"):  # which it calls dynamic, and is not
            base, alpha = parameters["rope_theta"], parameters["alpha"]
            parameters = {"rope_theta": base * alpha ** (size / (size - 2))}
        turned = _turned_dimensions(parameters, config, size)
        if turned != size and kind not in PARTIAL:
            raise Unknown("it turns a part of each head")
        if (before := config.get("original_max_position_embeddings")) is not None:
            parameters["original_max_position_embeddings"] = before  # it comes before the one of the rotation
        return (rotary_of(parameters, turned, longest),), _turned(config, kind, types)
    if not {*stated} <= {SLIDING, FULL}:
        raise Unknown("its rope_parameters are not those of kinds of layers")
    found = []
    for each, (base, name) in ROTATIONS[kind].items():
        # Transformers takes an older `type` for none where it has given a kind itself.
        of_kind = stated.get(each) or {"rope_type": "default", **(scaling if each == FULL else {})}
        found.append(rotary_of({"rope_theta": config.get(name, base), **of_kind}, size, longest))
    places = list(ROTATIONS[kind])
    return tuple(found), tuple(places.index(each) for each in types)


def _stated_by_phi(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """What it says of its rotary embedding, and whether that is longrope."""
    stated = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = stated.get("rope_type", stated.get("type", "default"))
    return {"rope_theta": config["rope_theta"], **stated}, kind in LONGROPES


def _rotation_of_phi(config: Mapping[str, Any], size: int, longest: int) -> Rotary:
    """The rotary embedding, of a part of each head."""
    parameters, is_long = _stated_by_phi(config)
    turned = _turned_dimensions(parameters, config, size)
    if is_long:
        return longrope(parameters, turned, longest, _length_of_phi(config))
    return rotary_of(parameters, turned, longest)


def _turned_dimensions(parameters: Mapping[str, Any], config: Mapping[str, Any], size: int) -> int:
    """How many numbers of a head are turned."""
    share = parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    turned = int(size * share)
    if not 0 < share <= 1 or turned < 2 or turned % 2:
        raise Unknown(f"it turns {turned} of {size} dimensions")
    return turned


def _length_of_phi(config: Mapping[str, Any]) -> int:
    """The longest text before frequencies change."""
    if not _stated_by_phi(config)[1]:
        return int(config["max_position_embeddings"])
    before = config["original_max_position_embeddings"]
    if isinstance(before, bool) or not isinstance(before, int) or before < 2:
        raise Unknown(f"its original_max_position_embeddings is {before!r}")
    return before


def _turned(config: Mapping[str, Any], kind: str, types: list[str]) -> tuple[int, ...]:
    """For each layer the one rotation or none."""
    if kind == "exaone4":  # layers without a window have none where others have one
        return tuple(NO_ROTATION if each == FULL and config.get("sliding_window") is not None else 0 for each in types)
    if kind != "smollm3":
        return (0,) * len(types)
    rotates = config.get("no_rope_layers")  # 1 where there is rotation, despite the name
    if not isinstance(rotates, list) or len(rotates) != len(types):
        raise Unknown("its config.json does not say which layers rotate")
    return tuple(0 if each else NO_ROTATION for each in rotates)
