"""Folders that say more than one thing: what transformers makes of them is computed, or they are refused."""

import json
import warnings

import numpy as np
import pytest

import outrider
from outrider import ModelError
from outrider.runtimes.base import Pass
from tiny import native as tiny_native
from tiny.runtimes import VOCABULARY, tiny
from tiny.sessions import text

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors_torch = pytest.importorskip("safetensors.torch")

LAYER = "model.layers.0"
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0}
# For each case its kind, what the model has, what config.json says besides, and weights that are added, by their size.
COMPUTED = {
    "an older rotation beside a newer one": ("Llama", {}, {"rope_scaling": LINEAR}, {}),
    "a length outside the rotation": (
        "Qwen3",
        {"head_dim": 32},
        {"rope_parameters": YARN, "original_max_position_embeddings": 64},
        {},
    ),
    "a bias of queries": ("Llama", {}, {}, {f"{LAYER}.self_attn.q_proj.bias": (32,)}),
    "a bias of outputs": ("Qwen2", {}, {}, {f"{LAYER}.self_attn.o_proj.bias": (32,)}),
    "a bias in the MLP": ("Llama", {}, {}, {f"{LAYER}.mlp.down_proj.bias": (32,)}),
    "a bias of the head": ("Llama", {}, {}, {"lm_head.bias": (VOCABULARY,)}),
    "norms of queries": (
        "Llama",
        {},
        {},
        {f"{LAYER}.self_attn.q_norm.weight": (8,), f"{LAYER}.self_attn.k_norm.weight": (8,)},
    ),
    "a head that is tied": ("Llama", {}, {"tie_word_embeddings": True}, {}),
    "a window that is not used": ("Mistral", {}, {"sliding_window": 5, "use_sliding_window": False}, {}),
    "a pattern of windows that OLMo 3 does not know": (
        "Olmo3",
        {"sliding_window": 5, "num_hidden_layers": 5},
        {"layer_types": None, "sliding_window_pattern": 2},
        {},
    ),
    "a window beyond all texts": ("Mistral", {}, {"sliding_window": 2**40}, {}),
}
REFUSED = {
    "tokens that see those behind them": ("Llama", {}, {"is_causal": False}),
    "layers of Ministral": (
        "Mistral",
        {},
        {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    ),
    "windows that Gemma has not": (
        "Gemma",
        {},
        {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    ),
}


def save(folder, kind, settings, says, weights=()):
    tiny(kind, **settings).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | says))
    if weights:
        file = folder / "model.safetensors"
        draw = torch.Generator().manual_seed(0)
        added = {name: torch.randn(size, generator=draw) for name, size in weights.items()}
        safetensors_torch.save_file(safetensors_torch.load_file(file) | added, file, {"format": "pt"})


def logits(model, tokens):
    session = model.open(1, len(tokens))
    return np.asarray(session.extend(Pass([0], [tokens], wanted=[len(tokens)])).logits)


@pytest.mark.parametrize("backend", ["torch", "native"])
@pytest.mark.parametrize("name", COMPUTED)
def test_what_transformers_makes_of_it_is_computed(tmp_path, name, backend):
    if backend == "native":
        tiny_native.library()
    save(tmp_path, *COMPUTED[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    model = outrider.load(tmp_path, backend=backend, dtype="float32", device="cpu")
    tokens = text(model, 40)
    with torch.inference_mode():
        expected = truth(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(logits(model, tokens), expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_computed_is_refused(tmp_path, name):
    tiny_native.library()
    save(tmp_path, *REFUSED[name])
    with pytest.raises(ModelError, match="is not for the native runtime"):
        outrider.load(tmp_path, backend="native")


def test_a_model_whose_tokens_see_those_behind_them_has_no_lean_pass(tmp_path):
    save(tmp_path, *REFUSED["tokens that see those behind them"])
    with pytest.raises(ModelError) as refusal:
        outrider.load(tmp_path, backend="torch", dtype="float32", device="cpu")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "settings", "windows"),
    [
        ("Llama", {"sliding_window": 5}, ()),
        ("Mistral", {"sliding_window": 5, "use_sliding_window": False}, (5, 5, 5)),
        ("Qwen2", {"sliding_window": 5, "use_sliding_window": False}, ()),
        ("Qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1}, (None, 5, 5)),
    ],
)
def test_windows_are_those_that_transformers_heeds(kind, settings, windows):
    from outrider.runtimes.torch.llama_layers import windows_of

    assert windows_of(tiny(kind, **settings).config) == (windows or (None,) * 3)
