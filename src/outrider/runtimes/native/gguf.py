"""Reads what a GGUF file says of a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from outrider.runtimes.llamacpp.header import Header
from outrider.runtimes.native.building import Names
from outrider.runtimes.native.description import (
    LARGEST_HEAD,
    LONGEST,
    NO_ROTATION,
    Description,
    Mixture,
    Rotary,
    Unknown,
    plain_frequencies,
    rotary_of,
)
from outrider.runtimes.native.families import LARGEST_SCALE
from outrider.runtimes.native.gguf_families import (
    ATTENTION_CAP,
    EXPERTS,
    FACTORS,
    FAMILIES,
    LOGIT_CAP,
    MIXTURES,
    OF_EXPERTS,
    OF_SHARED_EXPERTS,
    OUTER,
    PATTERN,
    QUERY_SLOPE,
    SCALES,
    SHORT_FACTORS,
    WINDOW,
    WITH_BIASES,
)
from outrider.runtimes.native.gguf_tokens import ends_of
from outrider.runtimes.native.weights import GGML_TYPES, GgufSource

FORWARD = "feed_forward_length"
NO_ROTATION_EVERY = 4  # layers of SmolLM3
APART = (
    WINDOW,
    PATTERN,
    ATTENTION_CAP,
    LOGIT_CAP,
    QUERY_SLOPE,
    "attention.clamp_kqv",
    "nextn_predict_layers",
    *SCALES,
)
# Where files name none, as llama.cpp has it.
GEMMA2_WINDOW, GEMMA2_CAPS = 4096, (50.0, 30.0)
LAYERS_OF_EXAONE = 64  # of the one EXAONE 4 with windows, as llama.cpp has it
# What other architectures say of their experts, and what of it is said of these too.
OTHER_EXPERTS = {
    "leading_dense_block_count": 0,
    "expert_shared_count": 0,
    "expert_group_count": 0,
    "expert_weights_scale": 1,
    "expert_gating_func": 1,  # softmax
}


def names_of(header: Header) -> Names:
    family = FAMILIES[architecture_of(header)]
    parts = {part: f"blk.{{}}.{name}" for part, name in family.parts.items()}
    fused = {f"blk.{{}}.{name}": parts for name, parts in family.fused.items()}
    sinks = f"blk.{{}}.{family.sinks}.weight" if family.sinks else ""
    return Names(*OUTER, parts, family.permuted, EXPERTS, fused=fused, sinks=sinks)


def architecture_of(header: Header) -> str:
    """Raises Unknown unless the native runtime knows it."""
    value = header.values.get("general.architecture")
    name = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    if name not in FAMILIES:
        raise Unknown(f"its architecture is {name}")
    return name


def describe(header: Header, file: Path) -> Description:
    """The sizes of the model.

    Raises:
        Unknown: the native runtime does not compute this model.
        ModelError: the rotary factors do not lie within the file.
    """
    kind = architecture_of(header)
    values, family = _Values(header, kind), FAMILIES[kind]
    for key in APART:
        if key not in family.settings and header.values.get(f"{kind}.{key}"):
            raise Unknown(f"it has {kind}.{key}")
    if values.find("attention.causal") is False:
        raise Unknown("its tokens see those behind them")
    strange = next((t.kind for t in header.tensors.values() if t.kind not in GGML_TYPES), None)
    if strange is not None:
        raise Unknown(f"it has weights of ggml's type {strange}")
    layers = values.count("block_count")
    _require_known(header, kind, layers)
    embedding = header.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise Unknown("it has no embedding of two dimensions")
    hidden, heads = values.count("embedding_length"), values.count("attention.head_count")
    size = values.count("attention.key_length", hidden // heads)
    if values.count("attention.value_length", size) != size:
        raise Unknown("keys and values have different sizes")
    turned = values.count("rope.dimension_count", size)
    if values.count("rope.dimension_count_swa", turned) != turned:
        raise Unknown("it turns another part of a head in layers with a window")
    if turned > size or turned > LARGEST_HEAD or turned % 2:
        raise Unknown(f"it turns {turned} of {size} dimensions")
    context = values.count("context_length")
    # Beyond it the frequencies of Phi change for the whole text (longrope).
    length = values.count("rope.scaling.original_context_length", context) if _is_long(header, kind) else context
    windows = _windows(values, kind, layers)
    rotaries, rotations = _rotations(header, values, kind, windows, turned, context, file)
    return Description(
        layers=layers,
        hidden=hidden,
        heads=heads,
        key_heads=values.count("attention.head_count_kv", heads),
        head_size=size,
        inner=values.count(FORWARD),
        vocabulary=embedding.shape[1],
        epsilon=values.number("attention.layer_norm_rms_epsilon"),
        context_length=min(length, context),
        stated_length=context if length < context else 0,
        rotaries=rotaries,
        windows=windows,
        rotations=rotations,
        tied="output.weight" not in header.tensors,
        stop=ends_of(header, file),
        mixture=_mixture(values, kind, layers),
        **_apart(values, kind, layers, hidden, heads),
    )


def _require_known(header: Header, kind: str, layers: int) -> None:
    """Raises Unknown where a file has weights that would be left out, as llama.cpp refuses it too."""
    family = FAMILIES[kind]
    of_experts = (*OF_EXPERTS, *(OF_SHARED_EXPERTS if kind == "qwen2moe" else ())) if kind in MIXTURES else ()
    weights = "|".join([*family.parts.values(), *family.fused, *of_experts, *filter(None, [family.sinks])])
    biases = "|".join(
        [family.parts[part] for part in WITH_BIASES if part in family.parts]
        + [name for name, parts in family.fused.items() if {*parts} <= {*WITH_BIASES}]
        + [*of_experts] * bool(family.sinks)
    )
    of_layer = re.compile(rf"blk\.(\d+)\.(({weights})\.weight|({biases})\.bias)")
    for name in header.tensors:
        found = of_layer.fullmatch(name)
        if name not in (*OUTER, FACTORS, *family.factors) and (found is None or int(found[1]) >= layers):
            raise Unknown(f"it has {name}" if found is None else f"it has {name} and says that it has {layers} layers")


def _apart(values: _Values, kind: str, layers: int, hidden: int, heads: int) -> dict[str, Any]:
    """The fields of Description in which the family differs from Llama."""
    family = FAMILIES[kind]
    found: dict[str, Any] = {"activation": family.activation, "norms_last": family.norms_last}
    if values.find(QUERY_SLOPE):
        step = values.count("rope.scaling.original_context_length")
        found |= {"query_slope": values.positive(QUERY_SLOPE), "query_step": step}
    if family.scaled:
        found |= {"activation": "gelu", "embedding_scale": hidden**0.5}
    if layers == family.other_scale_at:
        found["attention_scale"] = (hidden // heads) ** -0.5
    if kind == "gemma3" and values.find(LOGIT_CAP):
        found["logit_cap"] = values.positive(LOGIT_CAP)
    if kind == "gemma2":
        caps = (values.positive(key, cap) for key, cap in zip((ATTENTION_CAP, LOGIT_CAP), GEMMA2_CAPS, strict=True))
        found["attention_cap"], found["logit_cap"] = caps
    if kind in ("granite", "granitemoe"):
        if values.find("rope.scaling.finetuned") is False:
            raise Unknown("positions do not turn its queries and keys")
        fields = ("embedding_scale", "attention_scale", "residual_scale", "logit_divisor")
        found |= {  # 0 is none, but of logits
            field: values.positive(key)
            for field, key in zip(fields, SCALES, strict=True)
            if values.find(key) or key == "logit_scale"
        }
    return found


class _Values:
    """The settings that belong to the architecture."""

    def __init__(self, header: Header, architecture: str) -> None:
        self._values, self._architecture = header.values, architecture

    def find(self, key: str) -> Any:
        return self._values.get(f"{self._architecture}.{key}")

    def count(self, key: str, default: int | None = None) -> int:
        value = self.find(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LONGEST:
            raise Unknown(f"its {key} is {value if isinstance(value, int) else 'not one number'}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.find(key)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unknown(f"its {key} is {value!r}")
        return float(value)

    def positive(self, key: str, default: float | None = None) -> float:
        value = self.number(key, default)
        if not 0 < value < LARGEST_SCALE:
            raise Unknown(f"its {key} is {value}")
        return value


def _windows(values: _Values, kind: str, layers: int) -> tuple[int, ...]:
    """For each layer how many tokens a token sees; 0 is all."""
    family = FAMILIES[kind]
    stated = values.find(WINDOW) or (GEMMA2_WINDOW if kind == "gemma2" else 0)
    if not stated or WINDOW not in family.settings or (kind == "exaone4" and layers != LAYERS_OF_EXAONE):
        return (0,) * layers
    window = values.count(WINDOW, stated)
    if not family.window_every:
        return (window,) * layers
    every = values.count(PATTERN, family.window_every)
    return tuple(0 if (layer + 1) % every == 0 else window for layer in range(layers))


def _rotations(
    header: Header,
    values: _Values,
    kind: str,
    windows: tuple[int, ...],
    turned: int,
    context: int,
    file: Path,
) -> tuple[tuple[Rotary, ...], tuple[int, ...]]:
    """The rotary embeddings, and which of them each layer takes."""
    whole = _rotary(header, values, kind, turned, context, file)
    family = FAMILIES[kind]
    if family.window_every and any(windows) and not family.turns_alike:  # those have another base, or no scaling
        base = family.local_base or values.number("rope.freq_base", 10000.0)
        parameters = {"rope_theta": values.number("rope.freq_base_swa", base)}
        if kind == "gemma2" and values.find("rope.scaling.type"):
            raise Unknown("its rotary embedding is scaled")
        if kind != "olmo2" and whole.scale != 1.0:  # llama.cpp has it for those layers too
            raise Unknown("its rotary embedding has an attn_factor")
        return (whole, rotary_of(parameters, turned, context)), tuple(int(window > 0) for window in windows)
    if kind == "exaone4" and any(windows):
        return (whole,), tuple(0 if window else NO_ROTATION for window in windows)
    steps = NO_ROTATION_EVERY if kind == "smollm3" else len(windows) + 1
    return (whole,), tuple(0 if (layer + 1) % steps else NO_ROTATION for layer in range(len(windows)))


def _mixture(values: _Values, kind: str, layers: int) -> Mixture | None:
    """The experts of a model, in all of its layers."""
    if kind not in MIXTURES and values.find("expert_count"):
        raise Unknown(f"it has {kind}.expert_count")
    if kind not in MIXTURES or (kind == "llama" and not values.find("expert_count")):
        return None
    strange = next((key for key, usual in OTHER_EXPERTS.items() if values.find(key) not in (None, 0, usual)), None)
    if strange is not None:
        raise Unknown(f"it has {kind}.{strange}")
    count, used, inner = values.count("expert_count"), values.count("expert_used_count"), values.count(FORWARD)
    if used > count:
        raise Unknown(f"each token uses {used} of {count} experts")
    if kind != "qwen2moe" and values.find(f"expert_shared_{FORWARD}"):
        raise Unknown(f"it has {kind}.expert_shared_{FORWARD}")
    if not kind.startswith(("qwen", "gpt")):
        return Mixture(count, used, inner, MIXTURES[kind], (True,) * layers)
    shared = values.count(f"expert_shared_{FORWARD}", inner) if kind == "qwen2moe" else 0
    return Mixture(
        count, used, values.count(f"expert_{FORWARD}", inner // used), MIXTURES[kind], (True,) * layers, shared
    )


def _is_long(header: Header, kind: str) -> bool:
    return kind == "phi3" and SHORT_FACTORS in header.tensors


def _rotary(header: Header, values: _Values, architecture: str, turned: int, context: int, file: Path) -> Rotary:
    base = values.number("rope.freq_base", 10000.0)
    scaling = values.find("rope.scaling.type")
    kind = scaling.decode(errors="replace") if isinstance(scaling, bytes) else "linear"
    factor = values.number("rope.scaling.factor", values.number("rope.scale_linear", 0.0)) or 1.0  # 0 is none
    scale, is_long = values.positive("rope.scaling.attn_factor", 1.0), _is_long(header, architecture)
    if is_long or FACTORS in header.tensors:  # Phi, Llama 3.1: each frequency has a divisor
        factors = GgufSource(file, header).find(SHORT_FACTORS if is_long else FACTORS)
        if factors is None or factors.kind != "f32" or factors.shape != (turned // 2,):
            raise Unknown("its rotary factors are not one for each pair")
        if kind == "yarn" or (factor != 1.0 and kind != "none"):
            raise Unknown(f"its rotary embedding has factors and is scaled ({kind}) besides")
        return Rotary((plain_frequencies(base, turned) / factors.data.view(np.float32)).astype(np.float32), scale)
    parameters: dict[str, Any] = {"rope_theta": base}
    if kind in ("linear", "yarn"):
        parameters |= {"rope_type": kind, "factor": factor}
    elif kind != "none":
        raise Unknown(f"its rotary scaling is {kind}")
    if kind == "yarn":
        parameters["original_max_position_embeddings"] = values.number("rope.scaling.original_context_length", context)
        if architecture == "mistral3":  # llama.cpp reads these of no other family here
            for key in ("beta_fast", "beta_slow"):
                if values.find(f"rope.scaling.yarn_{key}") is not None:
                    parameters[key] = values.positive(f"rope.scaling.yarn_{key}")
            if values.find("rope.scaling.yarn_log_multiplier"):
                parameters |= {"mscale": 1.0, "mscale_all_dim": values.positive("rope.scaling.yarn_log_multiplier")}
    found = rotary_of(parameters, turned, context)
    return Rotary(found.frequencies, found.scale * scale)
