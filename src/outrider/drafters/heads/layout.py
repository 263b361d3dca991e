"""The weights of a draft head by their names in files: read from both formats, written in that of speculators.

speculators: fc, layers.0.*, norm, lm_head, embed_tokens, d2t, t2d, and input_norm or fc_norm.N where the configuration
asks for them. The older files name the layer `midlayer`. d2t holds, for each token that the head can draft, its id in
the target less its own number; t2d says of each of the target's tokens whether the head can draft it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from outrider.drafters.heads.config import EAGLE3, HeadConfig
from outrider.drafters.heads.module import Eagle3
from outrider.drafters.heads.names import EMBEDDING, FROM_TARGET, LAYER, OLDER_LAYER, TO_TARGET
from outrider.errors import ModelError
from outrider.runtimes.files.folder import CONFIG, SPECULATORS_TYPE, WEIGHTS, weight_files
from outrider.runtimes.files.whole_file import whole_file

PICKLED = "pytorch_model.bin"
SCALE = "_scale"  # of a weight that is kept in int8: float32 [outputs], beside it
# Of training, and what older libraries wrote without need.
IGNORED = ("verifier_norm.weight", "verifier_lm_head.weight", "rotary_emb.inv_freq", FROM_TARGET)
Weights = dict[str, torch.Tensor]

# Parts of the network, and the tensors that are joined in them.
PARTS = {
    "fc": ("fc",),
    "qkv": tuple(f"{LAYER}.self_attn.{part}_proj" for part in "qkv"),
    "output": (f"{LAYER}.self_attn.o_proj",),
    "gate_up": (f"{LAYER}.mlp.gate_proj", f"{LAYER}.mlp.up_proj"),
    "down": (f"{LAYER}.mlp.down_proj",),
    "lm_head": ("lm_head",),
    "token_norm": (f"{LAYER}.input_layernorm",),
    "state_norm": (f"{LAYER}.hidden_norm",),
    "mlp_norm": (f"{LAYER}.post_attention_layernorm",),
    "norm": ("norm",),
    "query_norm": (f"{LAYER}.self_attn.q_norm",),
    "key_norm": (f"{LAYER}.self_attn.k_norm",),
    "input_norm": ("input_norm",),
}


def read_weights(folder: Path) -> Weights:
    """All tensors of a folder, by their names in the speculators format.

    Raises:
        ModelError: there are none, or they cannot be read.
    """
    files = weight_files(folder)
    try:
        if files:
            found = {name: tensor for file in files for name, tensor in load_file(file).items()}
        elif (folder / PICKLED).is_file():
            found = torch.load(folder / PICKLED, map_location="cpu", weights_only=True)
        else:
            raise ModelError(f"head {folder} has neither {WEIGHTS} nor {PICKLED}: download it again")
    except ModelError:
        raise
    except Exception as error:  # whatever damaged files make safetensors and pickle say
        raise ModelError(f"the weights of head {folder} cannot be read: download them again") from error
    return {_name(name): tensor for name, tensor in found.items()}


def fill(head: Eagle3, weights: Weights, where: str) -> None:
    """Put the weights into a head; those used are taken out.

    Raises:
        ModelError: one is missing, has another size, or is of no use here.
    """
    for part, names in _parts_of(head):
        parameter = head.get_parameter(f"{part}.weight")
        pieces = [_take(weights, f"{name}.weight", where) for name in names]
        joined = pieces[0] if len(pieces) == 1 else torch.cat(pieces)
        if joined.shape != parameter.shape:
            raise ModelError(
                f"{names[0]}.weight of {where} makes {list(joined.shape)} and the configuration says "
                f"{list(parameter.shape)}: one of them is of another head"
            )
        with torch.no_grad():
            parameter.copy_(joined)
    known = (EMBEDDING, TO_TARGET, *IGNORED)
    strange = next((name for name in weights if not name.endswith(known)), None)
    if strange is not None:
        raise ModelError(f"head {where} has {strange}, which is not computed here: choose another head")


def target_ids(weights: Weights, config: HeadConfig, where: str) -> torch.Tensor:
    """The target's id of each token that the head can draft, int64 [draft vocabulary].

    Raises:
        ModelError: they do not fit.
    """
    offsets = weights.pop(TO_TARGET, None)
    count = config.draft_vocab_size
    if offsets is None:
        if count != config.vocab_size:
            raise ModelError(f"head {where} drafts {count} of {config.vocab_size} tokens and has no d2t: which ones?")
        return torch.arange(count)
    ids = torch.arange(len(offsets)) + offsets.to(torch.int64)
    if len(ids) != count or len(set(ids.tolist())) != count or ids.min() < 0 or ids.max() >= config.vocab_size:
        raise ModelError(
            f"d2t of head {where} names {len(ids)} tokens: it must be {count} different ones below {config.vocab_size}"
        )
    return ids


def write_head(
    folder: Path,
    head: Eagle3,
    ids: torch.Tensor,
    target: Mapping[str, Any],
    dtype: torch.dtype = torch.bfloat16,
    embedding: torch.Tensor | None = None,
) -> None:
    """Write a head in the speculators format.

    Args:
        ids: the target's id of each token that it can draft.
        target: `name_or_path` and `architectures` of the model that it drafts for.
        dtype: of the weights. int8 has one scale for each output, and is read by Outrider alone.
        embedding: its own, [vocabulary, hidden size]; None where it is the target's, which is left out.

    Raises:
        OSError: a file cannot be written.
    """
    weights: Weights = {}
    for part, names in _parts_of(head):
        weight = head.get_parameter(f"{part}.weight").detach().float().cpu()
        for name, piece in zip(names, torch.split(weight, _sizes(head, part, len(weight))), strict=True):
            weights |= _stored(f"{name}.weight", piece, dtype)
    if embedding is not None:
        weights[EMBEDDING] = embedding.cpu().to(torch.bfloat16 if dtype is torch.int8 else dtype).contiguous()
    config = head.config
    weights[TO_TARGET] = ids.cpu() - torch.arange(len(ids))
    drafted = torch.zeros(config.vocab_size, dtype=torch.bool)
    drafted[ids] = True
    weights[FROM_TARGET] = drafted
    with whole_file(folder / WEIGHTS) as file:
        file.write(save(weights, metadata={"format": "pt"}))
    with whole_file(folder / CONFIG) as file:
        file.write(json.dumps(_as_json(config, target), indent=2).encode())


def _as_json(config: HeadConfig, target: Mapping[str, Any]) -> dict[str, Any]:
    layer = {
        "model_type": "qwen3" if config.normed_heads else "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.inner,
        "num_hidden_layers": 1,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.key_heads,
        "head_dim": config.head_size,
        "rms_norm_eps": config.epsilon,
        "max_position_embeddings": config.longest,
        "rope_parameters": dict(config.rope),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
    }
    method = {"proposal_type": "greedy", "speculative_tokens": 4, "verifier_accept_k": 1, "accept_tolerance": 0.0}
    return {
        "architectures": ["Eagle3Speculator"],
        SPECULATORS_TYPE: EAGLE3,
        "model_type": "speculators",
        "draft_vocab_size": config.draft_vocab_size,
        "eagle_aux_hidden_state_layer_ids": list(config.layers),
        "norm_before_residual": config.norm_before_residual,
        "norm_before_fc": config.norm_before_fc,
        "fc_norm": config.fc_norm,
        "norm_output": config.norm_output,
        "target_hidden_size": None if config.target_hidden_size == config.hidden_size else config.target_hidden_size,
        "transformer_layer_config": layer,
        "speculators_config": {
            "algorithm": EAGLE3,
            "default_proposal_method": "greedy",
            "proposal_methods": [method],
            "verifier": dict(target),
        },
    }


def _parts_of(head: Eagle3) -> Iterator[tuple[str, tuple[str, ...]]]:
    config = head.config
    absent = {
        "query_norm": not config.normed_heads,
        "key_norm": not config.normed_heads,
        "input_norm": not config.norm_before_fc,
    }
    yield from ((part, names) for part, names in PARTS.items() if not absent.get(part, False))
    for number in range(config.read_layers if config.fc_norm else 0):
        yield f"fc_norm.{number}", (f"fc_norm.{number}",)


def _sizes(head: Eagle3, part: str, rows: int) -> list[int]:
    """How many rows each of the tensors has that are joined in a part."""
    return {
        "qkv": [head.query_size, head.key_size, head.key_size],
        "gate_up": [head.config.inner, head.config.inner],
    }.get(part, [rows])


def _stored(name: str, weight: torch.Tensor, dtype: torch.dtype) -> Weights:
    if dtype is not torch.int8 or weight.ndim < 2:
        return {name: weight.to(torch.bfloat16 if dtype is torch.int8 else dtype).contiguous()}
    scale = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
    return {name: (weight / scale[:, None]).round().to(torch.int8), name + SCALE: scale}


def _take(weights: Weights, name: str, where: str) -> torch.Tensor:
    weight = weights.pop(name, None)
    if weight is None:
        raise ModelError(f"the weights of head {where} lack {name}: download them again")
    if weight.dtype is torch.int8:
        return weight.float() * _take(weights, name + SCALE, where)[:, None]
    if not weight.dtype.is_floating_point:
        raise ModelError(f"{name} of head {where} is of type {weight.dtype}: floating point or int8 is read")
    return weight


def _name(name: str) -> str:
    return name.removeprefix("model.").replace(f"{OLDER_LAYER}.", f"{LAYER}.")
