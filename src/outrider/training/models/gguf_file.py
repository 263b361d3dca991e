"""A small Llama from a folder as a GGUF file, with the tokenizer of another GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from outrider.errors import ModelError, first_line
from outrider.runtimes.files.folder import CONFIG, WEIGHTS, read_object
from outrider.runtimes.files.whole_file import replaced_file

TOKENIZER = "tokenizer."
PARTS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: Path, tokenizer: Path, file: Path) -> Path:
    """Write it: matrices in float16, norms in float32.

    Args:
        folder: with config.json and model.safetensors of a Llama whose input and output share an embedding.
        tokenizer: a GGUF file.

    Raises:
        ModelError: the tokenizer's file is none.
        OSError: the file cannot be written.
    """
    import gguf

    config = read_object(folder / CONFIG)
    try:
        fields = gguf.GGUFReader(tokenizer).fields
    except (OSError, ValueError) as error:
        raise ModelError(f"{tokenizer} is no GGUF file of the target ({first_line(error)}): give another") from error
    with replaced_file(file) as stream:
        writer = gguf.GGUFWriter(Path(stream.name), "llama")
        writer.add_name(folder.name)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        _add_sizes(writer, config)
        for name, field in fields.items():
            if name.startswith(TOKENIZER):
                inner = field.types[-1] if len(field.types) > 1 else None
                writer.add_key_value(name, field.contents(), field.types[0], inner)
        for name, tensor in _tensors(load_file(folder / WEIGHTS), config):
            writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return file


def _add_sizes(writer: Any, config: dict[str, Any]) -> None:
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(float(config["rope_parameters"]["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _tensors(weights: dict[str, torch.Tensor], config: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    yield "token_embd.weight", _matrix(weights["model.embed_tokens.weight"])
    yield "output_norm.weight", weights["model.norm.weight"].float().numpy()
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in PARTS.items():
            weight = weights[f"model.layers.{layer}.{theirs}.weight"]
            if ours in ("attn_q", "attn_k"):
                weight = _in_pairs(weight, config["head_dim"])
            yield f"blk.{layer}.{ours}.weight", weight.float().numpy() if weight.ndim == 1 else _matrix(weight)


def _matrix(weight: torch.Tensor) -> np.ndarray:
    return weight.to(torch.float16).numpy()


def _in_pairs(weight: torch.Tensor, head_size: int) -> torch.Tensor:
    """Rows of queries or keys as llama.cpp turns them: the two numbers of a pair side by side, not in two halves."""
    heads = weight.shape[0] // head_size
    return weight.view(heads, 2, head_size // 2, -1).transpose(1, 2).reshape(weight.shape)
