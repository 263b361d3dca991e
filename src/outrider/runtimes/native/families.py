"""The families of transformers that are computed here: the names of their weights, and what sets each apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.runtimes.native.building import Names
from outrider.runtimes.native.description import LONGEST, Unknown
from outrider.runtimes.native.folder_experts import APART, EXPERTS

SLIDING, FULL = "sliding_attention", "full_attention"
LARGEST_SCALE = 1e9  # far above any model's
GELU = "gelu_pytorch_tanh"
Settings = Mapping[str, Any]

HEAD_NORMS = {"query_norm": "self_attn.q_norm", "key_norm": "self_attn.k_norm"}
QUERY_KEY_VALUE = {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
GATE_UP = {"gate": "mlp.gate_proj", "up": "mlp.up_proj"}
ENDS = {"output": "self_attn.o_proj", "down": "mlp.down_proj"}
NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
POST_NORMS = {
    "attention_post_norm": "post_attention_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
NORMS_AROUND = POST_NORMS | {"attention_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm"}
FUSED_MLP = {"model.layers.{}.mlp.gate_up_proj": ("gate", "up")}
FUSED = {"model.layers.{}.self_attn.qkv_proj": ("query", "key", "value"), **FUSED_MLP}
NORMS_OF_GLM = NORMS | {"attention_post_norm": "post_self_attn_layernorm", "mlp_post_norm": "post_mlp_layernorm"}
LINEARS = QUERY_KEY_VALUE | GATE_UP | ENDS
SINKS = "model.layers.{}.self_attn.sinks"


def _names(*parts: Mapping[str, str], **more: Any) -> Names:
    found = {part: f"model.layers.{{}}.{name}" for each in parts for part, name in each.items()}
    return Names("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", found, **more)


def _nothing(config: Settings) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Family:
    """A family as transformers keeps it.

    Attributes:
        kind: the model_type of its config.json.
        defaults: of transformers, for what its config.json may leave out.
        activations: that its config.json may name, at `activation_key`.
        apart: the fields of Description in which it differs from Llama.
        window_every: layers up to one without a window, where some layers have one; 0 where all layers are alike.
        slides: whether `sliding_window` is heeded.
        names_code: whether its folders name code of their own for what transformers computes itself.
        method: of quantisation, of the weights of experts (folder_mxfp4.py).
    """

    kind: str
    names: Names
    defaults: Settings = field(default_factory=dict)
    activation_key: str = "hidden_act"
    activations: tuple[str, ...] = ("silu",)
    apart: Callable[[Settings], dict[str, Any]] = _nothing
    window_every: int = 0
    slides: bool = False
    names_code: bool = False
    method: str = ""


def _olmoe(config: Settings) -> dict[str, Any]:
    if config.get("clip_qkv") is not None:
        raise Unknown(f"its clip_qkv is {config['clip_qkv']!r}")
    return {}


def _gemma(config: Settings) -> dict[str, Any]:
    """Embeddings are scaled in float32, as transformers does with weights in float32, and as llama.cpp always does."""
    return {"embedding_scale": config["hidden_size"] ** 0.5, "activation": "gelu"}


def _gemma2(config: Settings) -> dict[str, Any]:
    return _gemma(config) | {
        "attention_scale": _positive(config, "query_pre_attn_scalar") ** -0.5,
        "attention_cap": _cap(config, "attn_logit_softcapping"),
        "logit_cap": _cap(config, "final_logit_softcapping"),
    }


def _gemma3(config: Settings) -> dict[str, Any]:
    if config.get("attn_logit_softcapping") is not None:  # transformers ignores it
        raise Unknown("its config.json has attn_logit_softcapping")
    return _gemma2(config)


def _ministral3(config: Settings) -> dict[str, Any]:
    """Queries grow with their position: as in Llama 4, whose name for it transformers has."""
    stated = _rotation_stated(config)
    slope, step = _positive(stated, "llama_4_scaling_beta"), stated["original_max_position_embeddings"]
    if isinstance(step, bool) or not isinstance(step, int) or not 0 < step <= LONGEST:
        raise Unknown(f"its original_max_position_embeddings is {step!r}")
    return {"query_slope": slope, "query_step": step}


def _rotation_stated(config: Settings) -> Settings:
    stated = config.get("rope_scaling") or config.get("rope_parameters")  # transformers takes one
    if not isinstance(stated, dict):  # transformers has a default of its own
        raise Unknown("its config.json has no rope_parameters")
    return stated


def _gpt_oss(config: Settings) -> dict[str, Any]:
    for key, usual in (("swiglu_alpha", 1.702), ("swiglu_limit", 7.0)):
        if config.get(key, usual) != usual:
            raise Unknown(f"its {key} is {config[key]!r}")
    _rotation_stated(config)
    return {"activation": "clamped"}


def _cap(config: Settings, key: str) -> float:
    return 0.0 if config.get(key) is None else _positive(config, key)


def _positive(config: Settings, key: str) -> float:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST_SCALE:
        raise Unknown(f"its {key} is {value!r}")
    return float(value)


def _granite(config: Settings) -> dict[str, Any]:
    return {
        "embedding_scale": _positive(config, "embedding_multiplier"),
        "attention_scale": _positive(config, "attention_multiplier"),
        "residual_scale": _positive(config, "residual_multiplier"),
        "logit_divisor": _positive(config, "logits_scaling"),
    }


GRANITE_DEFAULTS = dict.fromkeys(
    ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"), 1.0
)
HEADS_OF_128 = {"head_dim": 128}
GEMMA_DEFAULTS = {"tie_word_embeddings": True, "head_dim": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0}
GEMMA2_DEFAULTS = GEMMA_DEFAULTS | {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_activation": GELU,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
}
CAPS = {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
FAMILIES = {
    "LlamaForCausalLM": Family("llama", _names(LINEARS, NORMS)),
    "MistralForCausalLM": Family("mistral", _names(LINEARS, NORMS), slides=True),
    "Qwen2ForCausalLM": Family("qwen2", _names(LINEARS, NORMS)),
    "Qwen3ForCausalLM": Family("qwen3", _names(LINEARS, NORMS, HEAD_NORMS)),
    "Ministral3ForCausalLM": Family(
        "ministral3", _names(LINEARS, NORMS), HEADS_OF_128 | {"sliding_window": None}, apart=_ministral3, slides=True
    ),
    "HunYuanDenseV1ForCausalLM": Family(
        "hunyuan_v1_dense",
        _names(LINEARS, NORMS, {"query_norm": "self_attn.query_layernorm", "key_norm": "self_attn.key_layernorm"}),
        apart=lambda config: {"norms_last": True},
    ),
    "SeedOssForCausalLM": Family("seed_oss", _names(LINEARS, NORMS), HEADS_OF_128),
    "Ernie4_5ForCausalLM": Family("ernie4_5", _names(LINEARS, NORMS, permuted=True), HEADS_OF_128),
    "Glm4ForCausalLM": Family(
        "glm4",
        _names(QUERY_KEY_VALUE, ENDS, NORMS_OF_GLM, fused=FUSED_MLP, permuted=True),
        HEADS_OF_128 | {"partial_rotary_factor": 0.5},
    ),
    "Exaone4ForCausalLM": Family("exaone4", _names(LINEARS, POST_NORMS, HEAD_NORMS), window_every=4),
    "SmolLM3ForCausalLM": Family("smollm3", _names(LINEARS, NORMS)),
    "MixtralForCausalLM": Family(
        "mixtral", _names(LINEARS, NORMS, experts=EXPERTS), {"sliding_window": None}, slides=True
    ),
    "Qwen2MoeForCausalLM": Family("qwen2_moe", _names(LINEARS, NORMS, experts=EXPERTS)),
    "Qwen3MoeForCausalLM": Family(
        "qwen3_moe", _names(LINEARS, NORMS, HEAD_NORMS, experts=EXPERTS), {"use_sliding_window": False}, slides=True
    ),
    "OlmoeForCausalLM": Family("olmoe", _names(LINEARS, NORMS, HEAD_NORMS, experts=EXPERTS), apart=_olmoe),
    "GemmaForCausalLM": Family(
        "gemma",
        _names(LINEARS, NORMS, norms_from_1=True),
        GEMMA_DEFAULTS,
        activations=(GELU, "gelu"),  # transformers takes the older name for the same
        apart=_gemma,
    ),
    "Gemma2ForCausalLM": Family(
        "gemma2",
        _names(LINEARS, NORMS_AROUND, norms_from_1=True),
        GEMMA2_DEFAULTS | CAPS,
        "hidden_activation",
        (GELU,),
        _gemma2,
        window_every=2,
    ),
    "Gemma3ForCausalLM": Family(
        "gemma3_text",
        _names(LINEARS, NORMS_AROUND, HEAD_NORMS, norms_from_1=True),
        GEMMA2_DEFAULTS | {"max_position_embeddings": 131072, "vocab_size": 262208},
        "hidden_activation",
        (GELU,),
        _gemma3,
        window_every=6,
    ),
    "GraniteMoeForCausalLM": Family(
        "granitemoe", _names(LINEARS, NORMS, experts=EXPERTS), GRANITE_DEFAULTS, apart=_granite
    ),
    "GptOssForCausalLM": Family(
        "gpt_oss",
        _names(LINEARS, NORMS, experts=APART, sinks=SINKS),
        {"sliding_window": 128, "tie_word_embeddings": False, "rope_theta": 150000.0},
        apart=_gpt_oss,
        window_every=2,
        method="mxfp4",
    ),
    "Phi3ForCausalLM": Family(
        "phi3",
        _names(ENDS, NORMS, fused=FUSED),
        {"sliding_window": None, "rope_theta": 10000.0, "original_max_position_embeddings": 4096},
        slides=True,
        names_code=True,
    ),
    "GraniteForCausalLM": Family("granite", _names(LINEARS, NORMS), GRANITE_DEFAULTS, apart=_granite),
    "Olmo2ForCausalLM": Family("olmo2", _names(LINEARS, POST_NORMS, HEAD_NORMS)),
    "Olmo3ForCausalLM": Family(
        "olmo3", _names(LINEARS, POST_NORMS, HEAD_NORMS), {"sliding_window": 4096}, window_every=4
    ),
}
# For each kind of layer the base of its rotation, where config.json names none, and the older name of that base.
ROTATIONS: Mapping[str, Mapping[str, tuple[float, str]]] = {
    "gemma3_text": {FULL: (1e6, "rope_theta"), SLIDING: (1e4, "rope_local_base_freq")},
    "olmo3": {FULL: (5e5, "rope_theta"), SLIDING: (5e5, "")},
}
