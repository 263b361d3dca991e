"""A GGUF file with random weights in the shapes of a small mixture of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY, WIDTH, HEADS, HEAD_SIZE = 1024, 2048, 16, 128
EXPERTS, USED, INNER = 64, 8, 1024  # of OLMoE
# Of a block of 32 numbers its bytes, and a scale that leaves a sum of WIDTH products near 1: a number, or 2^-8.
BLOCKS = {
    "q8_0": (34, np.array([0.0003], np.float16).view(np.uint8)),
    "q4_0": (18, np.array([0.005], np.float16).view(np.uint8)),
    "mxfp4": (17, np.array([120], np.uint8)),
}


def write_mixture(file: Path, kind: str, layers: int) -> None:
    """Layers of OLMoE's sizes in Qwen3-MoE's architecture. The vocabulary is so small that the head takes no time."""
    import gguf

    draw = np.random.default_rng(0)
    size, scale = BLOCKS[kind]

    def quantised(*shape: int) -> Any:
        blocks = draw.integers(0, 256, (*shape[:-1], shape[-1] // 32, size), dtype=np.uint8)
        blocks[..., : len(scale)] = scale
        return blocks.reshape(*shape[:-1], -1)

    ggml = gguf.GGMLQuantizationType[kind.upper()]
    writer = gguf.GGUFWriter(file, "qwen3moe")
    for add, value in {
        "context_length": 2048,
        "embedding_length": WIDTH,
        "block_count": layers,
        "feed_forward_length": INNER * USED,
        "expert_feed_forward_length": INNER,
        "expert_count": EXPERTS,
        "expert_used_count": USED,
        "head_count": HEADS,
        "head_count_kv": HEADS,
        "key_length": HEAD_SIZE,
        "value_length": HEAD_SIZE,
        "rope_dimension_count": HEAD_SIZE,
        "vocab_size": VOCABULARY,
    }.items():
        getattr(writer, f"add_{add}")(value)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tokenizer_model("no_vocab")
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", quantised(VOCABULARY, WIDTH), raw_dtype=ggml)
    queries = HEADS * HEAD_SIZE
    for layer in range(layers):
        for name, count in (
            ("attn_norm", WIDTH),
            ("ffn_norm", WIDTH),
            ("attn_q_norm", HEAD_SIZE),
            ("attn_k_norm", HEAD_SIZE),
        ):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(count, np.float32))
        router = draw.normal(0, WIDTH**-0.5, (EXPERTS, WIDTH)).astype(np.float32)
        writer.add_tensor(f"blk.{layer}.ffn_gate_inp.weight", router)
        for name, shape in {
            "attn_q": (queries, WIDTH),
            "attn_k": (queries, WIDTH),
            "attn_v": (queries, WIDTH),
            "attn_output": (WIDTH, queries),
            "ffn_gate_exps": (EXPERTS, INNER, WIDTH),
            "ffn_up_exps": (EXPERTS, INNER, WIDTH),
            "ffn_down_exps": (EXPERTS, WIDTH, INNER),
        }.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", quantised(*shape), raw_dtype=ggml)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
