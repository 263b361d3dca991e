"""Tiny GGUF files with random weights, for llama.cpp."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LAYERS = 3
WIDTH = 32
HEADS = 4
KEY_HEADS = 2
HEAD_SIZE = 8
INNER = 48
WINDOW = 5
TURNED = 4  # dimensions of a head of Phi
EXPERTS, USED, EXPERT_INNER, SHARED_INNER = 6, 2, 32, 64
SPREAD = 0.4
MIXTURES = ("gpt-oss", "granitemoe", "mixtral", "olmoe", "qwen2moe", "qwen3moe")
# SentencePiece joins two pieces at a time: what stands between letters and words has to be there.
PIECES = ["▁t", "▁th", "▁c", "▁ca", "▁s", "▁sa", "▁", "t", "h", "e", "c", "a", "s"]
# llama.cpp gives up the whole process over a character that is neither a piece nor made of bytes.
WORDS = ["<unk>", "<s>", "</s>", "▁the", "▁cat", "▁sat", *PIECES, *(f"<0x{byte:02X}>" for byte in range(256))]
TEMPLATE = (
    "{% for message in messages %}{{ bos_token }}{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %} the{% endif %}"
)


GEMMAS = ("gemma", "gemma2", "gemma3")


def weights(
    architecture: str, vocabulary: int, seed: int = 0, width: int = WIDTH, inner: int = INNER, layers: int = LAYERS
) -> dict[str, np.ndarray]:
    """By their names in GGUF files, [outputs, inputs]."""
    draw = np.random.default_rng(seed)

    def matrix(*sizes: int) -> np.ndarray:
        return draw.normal(0, SPREAD, sizes).astype(np.float32)

    def scales(size: int) -> np.ndarray:
        return draw.uniform(0.5, 1.5, size).astype(np.float32)

    found = {"token_embd.weight": matrix(vocabulary, width), "output_norm.weight": scales(width)}
    if architecture not in GEMMAS:
        found["output.weight"] = matrix(vocabulary, width)
    for layer in range(layers):
        block = f"blk.{layer}"
        if architecture == "mamba":
            found |= _mamba(block, matrix, scales)
            continue
        found |= {
            f"{block}.attn_norm.weight": scales(width),
            f"{block}.attn_q.weight": matrix(HEADS * HEAD_SIZE, width),
            f"{block}.attn_k.weight": matrix(key_heads(architecture) * HEAD_SIZE, width),
            f"{block}.attn_v.weight": matrix(key_heads(architecture) * HEAD_SIZE, width),
            f"{block}.attn_output.weight": matrix(width, HEADS * HEAD_SIZE),
            f"{block}.ffn_norm.weight": scales(width),
        }
        found |= (
            _experts(block, matrix, architecture) if architecture in MIXTURES else _mlp(block, matrix, width, inner)
        )
        if architecture == "phi3":
            _fuse(found, f"{block}.attn_qkv", *(f"{block}.attn_{part}" for part in "qkv"))
            _fuse(found, f"{block}.ffn_up", f"{block}.ffn_gate", f"{block}.ffn_up")
        if architecture == "olmo2":  # norms of what attention and MLP add, and of all queries and keys
            del found[f"{block}.attn_norm.weight"], found[f"{block}.ffn_norm.weight"]
            found |= {f"{block}.attn_q_norm.weight": scales(HEADS * HEAD_SIZE)}
            found |= {f"{block}.attn_k_norm.weight": scales(KEY_HEADS * HEAD_SIZE)}
        if architecture == "seed_oss":
            found[f"{block}.post_attention_norm.weight"] = found.pop(f"{block}.ffn_norm.weight")
            found |= {f"{block}.attn_{part}.bias": matrix(size) for part, size in BIASES.items()}
        if architecture == "glm4":
            _fuse(found, f"{block}.ffn_up", f"{block}.ffn_gate", f"{block}.ffn_up")
            found |= {f"{block}.attn_{part}.bias": matrix(size) for part, size in BIASES.items()}
        if architecture == "gpt-oss":
            found[f"{block}.post_attention_norm.weight"] = found.pop(f"{block}.ffn_norm.weight")
            found |= {f"{block}.attn_sinks.weight": scales(HEADS)}
            found |= {f"{name[: -len('weight')]}bias": matrix(*size) for name, size in _biases(found, block)}
        if architecture == "exaone4":
            del found[f"{block}.attn_norm.weight"], found[f"{block}.ffn_norm.weight"]
        if architecture in ("qwen3", "qwen3moe", "gemma3", "exaone4", "hunyuan-dense"):
            found |= {f"{block}.attn_{kind}_norm.weight": scales(HEAD_SIZE) for kind in "qk"}
        if architecture == "olmoe":
            found |= {f"{block}.attn_{kind}_norm.weight": scales(HEADS * HEAD_SIZE) for kind in "qk"}
        if architecture in ("gemma2", "gemma3", "olmo2", "glm4", "exaone4"):
            found |= {f"{block}.post_{part}.weight": scales(width) for part in ("attention_norm", "ffw_norm")}
    return found


def key_heads(architecture: str) -> int:
    return HEADS if architecture == "olmoe" else KEY_HEADS  # llama.cpp knows no other OLMoE


def _fuse(found: dict[str, np.ndarray], name: str, *parts: str) -> None:
    found[f"{name}.weight"] = np.concatenate([found.pop(f"{part}.weight") for part in parts])


def _mlp(block: str, matrix, width: int, inner: int) -> dict[str, np.ndarray]:
    return {
        f"{block}.ffn_gate.weight": matrix(inner, width),
        f"{block}.ffn_up.weight": matrix(inner, width),
        f"{block}.ffn_down.weight": matrix(width, inner),
    }


BIASES = {"q": HEADS * HEAD_SIZE, "k": KEY_HEADS * HEAD_SIZE, "v": KEY_HEADS * HEAD_SIZE}


def _experts(block: str, matrix, architecture: str) -> dict[str, np.ndarray]:
    inner = EXPERT_INNER if architecture.startswith(("qwen", "gpt")) else INNER

    def stack(rows: int, columns: int) -> np.ndarray:
        return np.stack([matrix(rows, columns) for _ in range(EXPERTS)])

    found = {
        f"{block}.ffn_gate_inp.weight": matrix(EXPERTS, WIDTH),
        f"{block}.ffn_gate_exps.weight": stack(inner, WIDTH),
        f"{block}.ffn_up_exps.weight": stack(inner, WIDTH),
        f"{block}.ffn_down_exps.weight": stack(WIDTH, inner),
    }
    if architecture == "qwen2moe":
        found |= {
            f"{block}.ffn_gate_inp_shexp.weight": matrix(1, WIDTH)[0],
            f"{block}.ffn_gate_shexp.weight": matrix(SHARED_INNER, WIDTH),
            f"{block}.ffn_up_shexp.weight": matrix(SHARED_INNER, WIDTH),
            f"{block}.ffn_down_shexp.weight": matrix(WIDTH, SHARED_INNER),
            **{f"{block}.attn_{part}.bias": matrix(1, size)[0] for part, size in BIASES.items()},
        }
    return found


def _biases(found: dict[str, np.ndarray], block: str) -> list[tuple[str, tuple[int, ...]]]:
    """The linears of a block and the shapes of their biases."""
    return [(name, tensor.shape[:-1]) for name, tensor in found.items() if name.startswith(block) and tensor.ndim > 1]


def _mamba(block: str, matrix, scales) -> dict[str, np.ndarray]:
    inner, states, rank = 2 * WIDTH, 4, 4
    return {
        f"{block}.attn_norm.weight": scales(WIDTH),
        f"{block}.ssm_in.weight": matrix(2 * inner, WIDTH),
        f"{block}.ssm_conv1d.weight": matrix(inner, 4),
        f"{block}.ssm_conv1d.bias": scales(inner),
        f"{block}.ssm_x.weight": matrix(rank + 2 * states, inner),
        f"{block}.ssm_dt.weight": matrix(inner, rank),
        f"{block}.ssm_dt.bias": scales(inner),
        f"{block}.ssm_a": -np.abs(matrix(inner, states)),
        f"{block}.ssm_d": scales(inner),
        f"{block}.ssm_out.weight": matrix(WIDTH, inner),
    }


def save(
    file: Path,
    architecture: str = "llama",
    *,
    vocabulary: int = 48,
    seed: int = 0,
    tensors: dict[str, np.ndarray] | None = None,
    words: list[str] | None = None,
    chat_template: str | None = None,
    layers: int = LAYERS,
    settings: Callable[[Any], object] = lambda writer: None,
    tokenizer: str = "llama",
) -> Path:
    """Write a model.

    Args:
        architecture: or "mixtral", which GGUF calls llama too.
        settings: adds further ones, with a GGUFWriter.
        tensors: instead of random ones.
        words: of a SentencePiece tokenizer, the first three unknown, begin and end; without, there is no tokenizer.
        tokenizer: its kind; "t5" is one that llama.cpp alone reads.
    """
    import gguf

    writer = gguf.GGUFWriter(file, "llama" if architecture == "mixtral" else architecture)
    writer.add_context_length(256)
    if tensors is None:
        tensors = weights(architecture, vocabulary if words is None else len(words), seed, layers=layers)
    inner = len(tensors["blk.0.ffn_gate.weight"]) if "blk.0.ffn_gate.weight" in tensors else INNER
    writer.add_embedding_length(tensors["token_embd.weight"].shape[1])
    writer.add_block_count(layers)
    writer.add_feed_forward_length(0 if architecture == "mamba" else inner)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(len(tensors["token_embd.weight"]))
    if architecture == "mamba":
        writer.add_head_count(0)
        writer.add_ssm_conv_kernel(4)
        writer.add_ssm_inner_size(2 * WIDTH)
        writer.add_ssm_state_size(4)
        writer.add_ssm_time_step_rank(4)
    else:
        writer.add_head_count(HEADS)
        writer.add_head_count_kv(key_heads(architecture))
        writer.add_key_length(HEAD_SIZE)
        writer.add_value_length(HEAD_SIZE)
        writer.add_rope_dimension_count(TURNED if architecture in ("phi3", "glm4") else HEAD_SIZE)
        writer.add_rope_freq_base(10000.0)
    if architecture in ("gemma2", "gemma3", "gpt-oss", "exaone4"):
        writer.add_sliding_window(WINDOW)
    if architecture in MIXTURES:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(USED)
        if architecture.startswith(("qwen", "gpt")):
            writer.add_expert_feed_forward_length(EXPERT_INNER)
        if architecture == "qwen2moe":
            writer.add_expert_shared_feed_forward_length(SHARED_INNER)
    settings(writer)
    add_tokenizer(writer, words, chat_template)
    if words is not None and tokenizer != "llama":
        del writer.kv_data[0]["tokenizer.ggml.model"]
        writer.add_tokenizer_model(tokenizer)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def add_tokenizer(writer, words: list[str] | None, chat_template: str | None) -> None:
    from gguf import TokenType

    if words is None:
        writer.add_tokenizer_model("no_vocab")
        return
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(place) for place in range(len(words))])
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    writer.add_token_types(
        kinds + [TokenType.BYTE if word.startswith("<0x") else TokenType.NORMAL for word in words[len(kinds) :]]
    )
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def as_transformers(tensors: dict[str, np.ndarray]):
    """The same qwen3 model in transformers."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    parts = {
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    names = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for layer in range(LAYERS):
        names |= {f"blk.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in parts.items()}
    config = Qwen3Config(
        vocab_size=len(tensors["token_embd.weight"]),
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=HEAD_SIZE,
        max_position_embeddings=256,
        tie_word_embeddings=False,
    )
    model = Qwen3ForCausalLM(config)
    state = {f"{names[name.removesuffix('.weight')]}.weight": torch.from_numpy(t) for name, t in tensors.items()}
    model.load_state_dict(state)
    return model.eval()
