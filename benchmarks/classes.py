"""Every causal language model class of transformers, built tiny: how Outrider reads it, and whether its text is right.

python -m benchmarks.classes            # prints the table of docs/models.md
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import transformers
from transformers.initialization import no_init_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

import outrider
from outrider.runtimes.torch.loading import greedy_generate
from outrider.runtimes.torch.model import TransformersModel

VOCABULARY = 48
MOST_PARAMETERS = 3_000_000
PROMPTS = ((3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3), (2, 7, 1), (11, 12, 13, 11, 12, 13, 11, 12))
LONGEST = 20  # new tokens
PLAIN = 12  # of them, without a drafter: beyond the window of 6 and the pieces of 8
# Sizes by the names that configs give them; those that a config does not know are left out.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "sliding_window": 6,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
    # Other names for the same
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "n_inner": 48,
    "d_model": 32,
    "num_layers": 3,
    "ffn_dim": 48,
    "decoder_layers": 3,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "word_embed_proj_dim": 32,
    "embedding_size": 32,
    # Mixtures of experts
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "n_group": 1,
    "topk_group": 1,
    # Latent attention
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    # States
    "state_size": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
}
DEFAULT_ROTATION = {"rope_type": "default", "rope_theta": 10000.0}
LAYERS_OF_GEMMA = ["sliding_attention", "sliding_attention", "full_attention"]
# Of the part that sees images, where there is one. Texts do not go through it.
SMALL_EYES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 16,
}
# What else a kind of model needs.
OF_KIND: dict[str, dict[str, Any]] = {
    "gptj": {"rotary_dim": 4},
    "codegen": {"rotary_dim": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "num_hidden_layers": 4, "window_size": 6},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba"]},
    "falcon_h1": {"mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "gemma3n_text": {"num_kv_shared_layers": 0, "num_hidden_layers": 2, "laurel_rank": 8},
    "llama4_text": {"attention_chunk_size": 8, "intermediate_size_mlp": 48},
    "phi3": {"rope_parameters": DEFAULT_ROTATION},
    "cpmant": {
        "dim_head": 8,
        "dim_ff": 48,
        "prompt_types": 2,
        "prompt_length": 2,
        "segment_types": 32,
    },
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "sliding_attention": DEFAULT_ROTATION | {"mrope_section": [2, 1, 1]},
            "full_attention": None,
        },
        "head_dim": 8,
    },
    "dots1": {"n_shared_experts": 1},
    "hunyuan_v1_dense": {"rope_parameters": DEFAULT_ROTATION, "head_dim": 8},
    "hunyuan_v1_moe": {"rope_parameters": DEFAULT_ROTATION, "head_dim": 8, "moe_topk": 2},
    "ministral": {
        "rope_parameters": DEFAULT_ROTATION,
        "head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "kimi_linear": {"linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2_moe": {
        "layer_types": ["conv", "full_attention", "conv"],
        "num_dense_layers": 1,
        "rope_parameters": DEFAULT_ROTATION,
    },
    "zamba2": {"layers_block_type": ["mamba", "hybrid", "mamba"], "mamba_ngroups": 1, "n_mamba_heads": 8},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
    "git": {"vision_config": SMALL_EYES},
    "gemma4_text": {"num_kv_shared_layers": 0, "layer_types": LAYERS_OF_GEMMA},
    "gemma4_unified_text": {"num_kv_shared_layers": 0, "layer_types": LAYERS_OF_GEMMA},
    "roc_bert": {"pronunciation_vocab_size": 8, "shape_vocab_size": 8},
    "xmod": {"default_language": "en_XX"},
    "dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 3,
        "max_seq_len": 128,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2, "ffn_act_fn": {"name": "silu"}},
    },
}
# Encoders, which decode only if their config says so: they are tried both ways.
ENCODERS = (
    "BertGenerationDecoder",
    "BertLMHeadModel",
    "BigBirdForCausalLM",
    "CamembertForCausalLM",
    "Data2VecTextForCausalLM",
    "ElectraForCausalLM",
    "ErnieForCausalLM",
    "MegatronBertForCausalLM",
    "RemBertForCausalLM",
    "RoCBertForCausalLM",
    "RoFormerForCausalLM",
    "RobertaForCausalLM",
    "RobertaPreLayerNormForCausalLM",
    "XLMRobertaForCausalLM",
    "XLMRobertaXLForCausalLM",
    "XmodForCausalLM",
)
AS_DECODER = ", is_decoder"
ALTERNATIVES: tuple[dict[str, Any], ...] = (
    {},
    {"num_key_value_heads": 4},
    {"num_hidden_layers": 4},
    {"head_dim": None},
    {"num_hidden_layers": 8, "num_key_value_heads": 4},
    {"hidden_size": 64, "head_dim": 16, "d_model": 64, "n_embd": 64},
    {"sliding_window": None},
)


@dataclass(frozen=True)
class Verdict:
    """How a class is read.

    Attributes:
        way: "shared passes", "replay" or "refused".
        reason: why it is refused, in one line.
        wrong: what went wrong in decoding; empty where all texts are right.
    """

    way: str
    reason: str = ""
    wrong: str = ""


def names() -> list[str]:
    """Of all causal language model classes; nothing is imported for it."""
    found: set[str] = set()
    for each in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        found |= {each} if isinstance(each, str) else set(each)
    return sorted([*found, *(f"{each}{AS_DECODER}" for each in ENCODERS)])


def classes_of(name: str) -> tuple[Any, Any]:
    """(config class, or a function like it; model class)."""
    name, decodes, _ = name.partition(AS_DECODER)
    kind = next(
        kind
        for kind, each in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items()
        if name in ((each,) if isinstance(each, str) else each)
    )
    model_class = getattr(transformers, name)
    # A decoder that is part of a larger model has a config of its own.
    config_class = model_class.config_class or CONFIG_MAPPING[kind]
    return partial(config_class, is_decoder=True) if decodes else config_class, model_class


def build(config_class: Any, model_class: Any) -> Any | None:
    """A model of a few thousand parameters, or None where none of the sizes fits."""
    tried: list[dict[str, Any]] = []
    for alternative in ALTERNATIVES:
        try:
            with quiet():
                config = _config(config_class, SIZES | alternative)
                if (stated := config.to_dict()) in tried:  # the class has no such size
                    continue
                tried.append(stated)
                with torch.device("meta"), no_init_weights():
                    size = sum(each.numel() for each in model_class(config).parameters())
                if size > MOST_PARAMETERS:
                    continue
                torch.manual_seed(0)
                model = model_class(config).eval()
                ids = torch.tensor([PROMPTS[0]])
                with torch.inference_mode():
                    model(ids)
                    own_greedy(model)(PROMPTS[1], 2)
            return model
        except Exception:  # of a class of transformers, for sizes that it was not made for
            continue
    return None


def own_greedy(model: Any) -> Any:
    """The greedy `generate` of transformers, from prompt and number of tokens to new tokens."""
    # Without the file's penalties and forced tokens, which are no part of the model.
    model.generation_config = transformers.GenerationConfig(pad_token_id=0, bos_token_id=1)
    return greedy_generate(model, frozenset())


def _config(config_class: Any, sizes: dict[str, Any]) -> Any:
    default = config_class()
    inner = default.get_text_config(decoder=True)
    sizes = sizes | OF_KIND.get(inner.model_type, {})
    computed = {name for name in sizes if isinstance(getattr(type(inner), name, None), property)}
    fitting = {name: value for name, value in sizes.items() if name not in computed and _has(inner, name)}
    if _has(inner, "head_dim") and inner.to_dict().get("head_dim") is None:
        fitting.pop("head_dim", None)
    fitting |= OF_KIND.get(inner.model_type, {})
    place = next((name for name, value in vars(default).items() if value is inner), None)
    if place is None:  # also the decoder of an encoder-decoder, which is a copy
        return config_class(**fitting)
    beside = {"vision_config": SMALL_EYES} if "vision_config" in default.to_dict() else {}
    return config_class(**{place: fitting | {"model_type": inner.model_type}} | beside)


def _has(config: Any, name: str) -> bool:
    try:
        return hasattr(config, name)
    except Exception:  # of a config whose layers differ in it
        return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what transformers says about such sizes."""
    transformers.logging.set_verbosity_error()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


class Prompter(outrider.Drafter):
    """Knows how the texts go on, and mixes right tokens with wrong ones: all of a chain, the end of one, or a first
    child, so that what is kept of a tree is another branch."""

    name = "prompter"

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self._texts = texts

    def propose(
        self, sequences: Sequence[outrider.DraftedSequence], budgets: Sequence[outrider.Budget]
    ) -> list[outrider.Draft]:
        return [self._draft(list(each.tokens), budget) for each, budget in zip(sequences, budgets, strict=True)]

    def _draft(self, tokens: list[int], budget: outrider.Budget) -> outrider.Draft:
        known = next((list(text) for text in self._texts if list(text[: len(tokens)]) == tokens), tokens)
        right = known[len(tokens) : len(tokens) + budget.nodes]
        if len(right) < 3:
            return outrider.Draft(tuple(right))
        wrong = (right[1] + 1) % VOCABULARY
        if len(tokens) % 3 == 0:
            return outrider.Draft(tuple(right))
        if len(tokens) % 3 == 1:
            return outrider.Draft((right[0], wrong, right[2]))
        return outrider.Draft(((right[0] + 1) % VOCABULARY, *right[:2]), (-1, -1, 1))


def judge(model: Any) -> Verdict:
    """Decode greedily in several ways and compare with `generate`."""
    generate = own_greedy(model)
    with quiet():
        expected = [generate(prompt, LONGEST) for prompt in PROMPTS]
        try:
            target = TransformersModel(model)
        except outrider.ModelError as error:
            return Verdict("refused", str(error))
        way = "shared passes" if target.shares_passes else "replay"
        try:
            texts = [(*prompt, *text) for prompt, text in zip(PROMPTS, expected, strict=True)]
            found = {
                "one row, no drafter": (_decode(target, None, PROMPTS[1:2], PLAIN), [expected[1][:PLAIN]]),
                "ragged rows, chains and trees": (_decode(target, Prompter(texts), PROMPTS, LONGEST), expected),
            }
        except Exception as error:
            return Verdict(way, wrong=f"{type(error).__name__}: {error}")
    wrong = [how for how, (decoded, right) in found.items() if decoded != right]
    return Verdict(way, wrong=", ".join(wrong))


def _decode(target: TransformersModel, drafter: Any, prompts: Sequence[Sequence[int]], longest: int) -> list[list[int]]:
    return outrider.batched_speculative_decode(
        prompts,
        drafter,
        target,
        longest,
        sampling=outrider.SamplingParams(temperature=0),
        lookahead=_three_drafts(),
        stop_token_ids=(),
    )


def _three_drafts() -> outrider.LookaheadPolicy:
    """With costs that nobody has to measure, by which rows share a pass: what is right does not depend on the clock."""
    policy = outrider.Fixed(3)
    policy.costs = outrider.CostCurve()
    return policy


def table(chosen: Sequence[str]) -> Iterator[str]:
    """Lines of the table in docs/models.md."""
    yield "| class | how it is read | |"
    yield "|---|---|---|"
    for name in chosen:
        model = build(*classes_of(name))
        if model is None:
            yield f"| `{name}` | not tried | no tiny model of it was built |"
            continue
        verdict = judge(model)
        yield f"| `{name}` | {verdict.way} | {f'WRONG: {verdict.wrong}' if verdict.wrong else _short(verdict.reason)} |"


def _short(reason: str) -> str:
    """Without the model's name and the remedy, which are the same in all lines."""
    return reason.partition(") ")[2].rpartition(": pass it")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="classes; all of them where none is named")
    for line in table(parser.parse_args().names or names()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
