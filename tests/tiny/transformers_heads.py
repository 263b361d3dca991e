"""Models with MTP layers and DFlash heads, tiny and random, and what transformers' classes say of a text."""

import json
from unittest.mock import patch

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

SIZE = 16
LAYERS = 3  # of the target
DFLASH = {
    "hidden_size": SIZE,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "block_size": 5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "hidden_act": "silu",
}


def glm(vocab_size, mtp_layers=1, seed=1, **changes):
    """A GLM-4 MoE model of one layer, whose configuration says that it has MTP layers."""
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": SIZE,
        "intermediate_size": 24,
        "moe_intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "initializer_range": 0.5,
    }
    config = transformers.Glm4MoeConfig(vocab_size=vocab_size, num_nextn_predict_layers=mtp_layers, **sizes | changes)
    return transformers.Glm4MoeForCausalLM(config).eval()


def with_mtp(folder, vocab_size, mtp_layers=1, seed=0):
    """A folder of a GLM-4 MoE model of LAYERS layers, its MTP layers named as in released checkpoints."""
    glm(
        vocab_size,
        mtp_layers,
        seed,
        num_hidden_layers=LAYERS + mtp_layers,
        first_k_dense_replace=1,
        max_position_embeddings=128,
        initializer_range=0.3,
        eos_token_id=None,
    ).save_pretrained(folder)
    file = folder / "model.safetensors"
    weights = safetensors_torch.load_file(file)
    for layer in range(LAYERS, LAYERS + mtp_layers):
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            weights[f"model.layers.{layer}.{norm}.weight"] = 1 + 0.3 * torch.randn(SIZE)
        weights[f"model.layers.{layer}.eh_proj.weight"] = torch.randn(SIZE, 2 * SIZE) / SIZE**0.5
    safetensors_torch.save_file(weights, file, {"format": "pt"})
    written = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**written, "num_hidden_layers": LAYERS}))
    return folder


def mtp_names():
    """The layers after LAYERS are MTP layers, as transformers says of the released sizes of this class."""
    return patch.object(
        transformers.Glm4MoeForCausalLM, "_keys_to_ignore_on_load_unexpected", [rf"model\.layers\.[{LAYERS}-9].*"]
    )


def mtp_model(module, mtp_layers):
    """transformers' MtpModel with random weights beside a module."""
    from transformers.modeling_layers import MtpModel

    torch.manual_seed(3)
    model = MtpModel(module, mtp_layers).eval()
    for name, weight in model.named_parameters():
        if name.startswith("layers"):
            torch.nn.init.normal_(weight, std=0.3)
    return model


@torch.inference_mode()
def mtp_logits(model, text, states):
    """The logits [MTP layers, vocabulary] of a draft of the most probable tokens, in one pass over the whole text."""
    from transformers.cache_utils import MtpCache

    ids = torch.tensor([text[1:]])
    positions = torch.arange(1, len(text))[None]
    _, logits, _ = model(ids, torch.as_tensor(states)[None], None, positions, MtpCache(config=model.config))
    return logits[0].numpy()


def dflash_model(layers, mask, seed=0):
    torch.manual_seed(seed)
    config = transformers.MuseGlimmerAssistantConfig(
        **DFLASH, target_layer_ids=list(layers), mask_token_id=mask, layer_types=["full_attention"] * 2
    )
    model = transformers.MuseGlimmerAssistantModel(config).eval()
    for name, weight in model.named_parameters():
        if weight.ndim == 2 or "norm" in name:
            torch.nn.init.normal_(weight, mean=float(weight.ndim == 1), std=0.4 if weight.ndim == 2 else 0.2)
    return model


def write_dflash(folder, layers=(0, 1), mask=1, authors=False, **changes):
    """The files of a DFlash head: transformers' own, or named as the authors name them."""
    model = dflash_model(layers, mask)
    model.save_pretrained(folder)
    if authors:
        weights = {
            name.replace("encoder.fc.", "fc.").replace("encoder.output_norm_enc.", "hidden_norm."): weight
            for name, weight in safetensors_torch.load_file(folder / "model.safetensors").items()
        }
        safetensors_torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})
        sizes = {key: value for key, value in DFLASH.items() if key != "rope_parameters"}
        own = {"mask_token_id": mask, "target_layer_ids": list(layers)}
        rope = {"rope_theta": 1000.0, "rope_scaling": None}
        config = {"architectures": ["DFlashDraftModel"], "model_type": "qwen3", **sizes, **rope, "dflash_config": own}
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
    elif changes:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return model


@torch.inference_mode()
def dflash_states(model, text, context, embedding):
    """[block size - 1, hidden size], in one pass over the whole text.

    Args:
        context: [tokens but the last, states side by side].
    """
    from transformers.cache_utils import DFlashCache

    size = model.config.block_size
    cache = DFlashCache(config=model.config)
    cache.set_previous_accepted_tokens(len(text) - 1)
    ids = torch.tensor([text[-1], *[model.config.mask_token_id] * (size - 1)])
    found = model(
        noise_embeds=embedding[ids][None],
        context_hidden_states=torch.as_tensor(context)[None],
        position_ids=torch.arange(len(text) - 1 + size)[None],
        past_key_values=cache,
    )
    return found.last_hidden_state[0, 1:]
