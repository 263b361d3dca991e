"""The families of GGUF files that are computed here: the names of their weights, and what sets each apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outrider.runtimes.native.mixture import PARTS as EXPERT_PARTS
from outrider.runtimes.native.mixture import ExpertNames

# Whether the weights of the experts that a token uses have the sum 1. Llama's are Mixtral's.
MIXTURES = {"gpt-oss": True, "granitemoe": True, "llama": True, "olmoe": False, "qwen2moe": False, "qwen3moe": True}
LINEARS = {
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "output": "attn_output",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}
NORMS = {"attention_norm": "attn_norm", "mlp_norm": "ffn_norm"}
HEAD_NORMS = {"query_norm": "attn_q_norm", "key_norm": "attn_k_norm"}
NORMS_OF_SEED = {"attention_norm": "attn_norm", "mlp_norm": "post_attention_norm"}
POST_NORMS = {"attention_post_norm": "post_attention_norm", "mlp_post_norm": "post_ffw_norm"}
FACTORS = "rope_freqs.weight"
SHORT_FACTORS, LONG_FACTORS = "rope_factors_short.weight", "rope_factors_long.weight"


@dataclass(frozen=True, slots=True)
class Family:
    """What sets an architecture apart from Llama.

    Attributes:
        permuted: whether the rows of queries and keys stand in pairs.
        window_every: layers up to one without a window, where some layers have one; 0 where all layers are alike.
        settings: that it knows among those that others do not.
        scaled: whether it is Gemma's: embeddings are scaled, and gelu gates the MLP.
        other_scale_at: so many layers have queries scaled by the width and not by the size of a head, as llama.cpp has
            it: files do not say so.
        fused: parts that stand in one weight.
        factors: of rotations, that it has beside FACTORS.
        activation: of the MLP's gate.
        turns_alike: whether layers with a window have the rotations of the others.
        sinks: scores of each query head that add no value; empty where there are none. Experts have biases then.
        norms_last: whether the norms of heads come after their rotation.
        local_base: of the rotations of layers with a window, where files name none; None is that of the other layers.
    """

    parts: Mapping[str, str]
    permuted: bool = False
    window_every: int = 0
    settings: tuple[str, ...] = ()
    scaled: bool = False
    other_scale_at: int = 0
    local_base: float | None = None
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    activation: str = "silu"
    turns_alike: bool = False
    sinks: str = ""
    norms_last: bool = False


QUERY_SLOPE = "attention.temperature_scale"
WINDOW, PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"
SCALES = ("embedding_scale", "attention.scale", "residual_scale", "logit_scale")
ATTENTION_CAP, LOGIT_CAP = "attn_logit_softcapping", "final_logit_softcapping"
FAMILIES = {
    "llama": Family(NORMS | LINEARS, permuted=True),
    "smollm3": Family(NORMS | LINEARS, permuted=True),
    "qwen2": Family(NORMS | LINEARS),
    "qwen3": Family(NORMS | LINEARS | HEAD_NORMS),
    "olmoe": Family(NORMS | LINEARS | HEAD_NORMS),
    "qwen2moe": Family(NORMS | LINEARS),
    "qwen3moe": Family(NORMS | LINEARS | HEAD_NORMS),
    "gemma": Family(NORMS | LINEARS, scaled=True),
    "gemma2": Family(
        NORMS | LINEARS | POST_NORMS,
        window_every=2,
        settings=(WINDOW, PATTERN, ATTENTION_CAP, LOGIT_CAP),
        scaled=True,
        other_scale_at=46,
    ),
    "gemma3": Family(
        NORMS | LINEARS | POST_NORMS | HEAD_NORMS,
        window_every=6,
        settings=(WINDOW, PATTERN, LOGIT_CAP),
        scaled=True,
        other_scale_at=62,
        local_base=10000.0,
    ),
    "granitemoe": Family(NORMS | LINEARS, permuted=True, settings=SCALES),
    "mistral3": Family(NORMS | LINEARS, permuted=True, settings=(QUERY_SLOPE,)),
    "seed_oss": Family(NORMS_OF_SEED | LINEARS),
    "ernie4_5": Family(NORMS | LINEARS, permuted=True),
    "glm4": Family(
        NORMS | POST_NORMS | {part: name for part, name in LINEARS.items() if part not in ("gate", "up")},
        permuted=True,
        fused={"ffn_up": ("gate", "up")},
    ),
    "exaone4": Family(LINEARS | POST_NORMS | HEAD_NORMS, window_every=4, settings=(WINDOW, PATTERN), turns_alike=True),
    "hunyuan-dense": Family(NORMS | LINEARS | HEAD_NORMS, norms_last=True),
    "gpt-oss": Family(
        NORMS_OF_SEED | LINEARS,
        window_every=2,
        settings=(WINDOW, PATTERN),
        activation="clamped",
        turns_alike=True,
        sinks="attn_sinks",
    ),
    "phi3": Family(
        NORMS | {part: LINEARS[part] for part in ("output", "down")},
        settings=(WINDOW,),
        fused={"attn_qkv": ("query", "key", "value"), "ffn_up": ("gate", "up")},
        factors=(SHORT_FACTORS, LONG_FACTORS),
    ),
    "granite": Family(NORMS | LINEARS, permuted=True, settings=SCALES),
    "olmo2": Family(LINEARS | POST_NORMS | HEAD_NORMS, window_every=4, settings=(WINDOW, PATTERN)),
}
EXPERTS = ExpertNames(
    router=("blk.{}.ffn_gate_inp.weight",),
    stacked={part: (f"blk.{{}}.ffn_{part}_exps.weight",) for part in EXPERT_PARTS},
    shared={part: f"blk.{{}}.ffn_{part}_shexp.weight" for part in EXPERT_PARTS},
    shared_gate="blk.{}.ffn_gate_inp_shexp.weight",
)
OF_EXPERTS = ("ffn_gate_inp", "ffn_(?:gate|up|down)_exps")
OF_SHARED_EXPERTS = ("ffn_gate_inp_shexp", "ffn_(?:gate|up|down)_shexp")
WITH_BIASES = ("query", "key", "value", "output")
OUTER = ("token_embd.weight", "output_norm.weight", "output.weight")
