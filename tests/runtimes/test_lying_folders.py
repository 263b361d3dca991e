"""Model folders that lie are refused in one line, at once, by every backend that opens folders."""

import json
import struct
import time

import pytest

import outrider
from outrider import ModelError
from tiny import model as tiny_model

pytest.importorskip("transformers")
pytest.importorskip("torch")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    folder = tiny_model.save(tmp_path_factory.mktemp("honest"))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


DEEP = "[" * 200_000
CONFIGS = {
    "fewer-layers": {"num_hidden_layers": 1},
    "more-layers": {"num_hidden_layers": 5},
    "endless-layers": {"num_hidden_layers": 10**6},
    "negative-layers": {"num_hidden_layers": -1},
    "no-layers": {"num_hidden_layers": 0},
    "half-a-layer": {"num_hidden_layers": 1.5},
    "layers-as-text": {"num_hidden_layers": "two"},
    "layers-true": {"num_hidden_layers": True},
    "another-width": {"hidden_size": 64},
    "endless-width": {"hidden_size": 10**12, "head_dim": 8},
    "no-heads": {"num_attention_heads": 0},
    "other-heads": {"num_attention_heads": 8},
    "other-key-heads": {"num_key_value_heads": 3},
    "other-head-size": {"head_dim": 7},
    "endless-heads": {"head_dim": 10**9},
    "other-inner-width": {"intermediate_size": 47},
    "another-vocabulary": {"vocab_size": 16},
    "endless-vocabulary": {"vocab_size": 10**10},
    "vocabulary-as-text": {"vocab_size": "x"},
    "vocabulary-null": {"vocab_size": None},
    "context-as-text": {"max_position_embeddings": "long"},
    "no-context": {"max_position_embeddings": 0},
    "architectures-as-number": {"architectures": 7},
    "architectures-of-numbers": {"architectures": [7]},
    "architecture-unknown": {"architectures": ["Nosuch"], "model_type": "nosuch"},
    "type-as-list": {"model_type": ["llama"]},
    "rotation-as-number": {"rope_parameters": 5},
    "inner-width-as-list": {"intermediate_size": []},
    "epsilon-huge": {"rms_norm_eps": 10**400},
    "epsilon-as-text": {"rms_norm_eps": "small"},
    "activation-as-number": {"hidden_act": 3},
    "layer-types-as-number": {"layer_types": 3},
    "stop-token-nested": {"eos_token_id": [[1]]},
    "stop-token-as-text": {"eos_token_id": "</s>"},
}


def head(text):
    return struct.pack("<Q", len(text)) + text.encode()


FILES = {
    "config-broken": ("config.json", "{"),
    "config-list": ("config.json", "[]"),
    "config-number": ("config.json", "5"),
    "config-empty": ("config.json", ""),
    "config-deep": ("config.json", DEEP),
    "config-latin": ("config.json", b'{"a": "\xe9"}'),
    "generation-broken": ("generation_config.json", "{"),
    "generation-list": ("generation_config.json", "[]"),
    "generation-stop": ("generation_config.json", '{"eos_token_id": "x"}'),
    "tokenizer-settings-list": ("tokenizer_config.json", "[]"),
    "tokenizer-class-list": ("tokenizer_config.json", '{"tokenizer_class": [0]}'),
    "tokenizer-length-list": (
        "tokenizer_config.json",
        '{"tokenizer_class": "LlamaTokenizerFast", "model_max_length": [5]}',
    ),
    "tokenizer-settings-deep": ("tokenizer_config.json", DEEP),
    "tokenizer-broken": ("tokenizer.json", "{"),
    "tokenizer-list": ("tokenizer.json", "[]"),
    "weights-empty": ("model.safetensors", ""),
    "weights-short": ("model.safetensors", b"1234"),
    "weights-endless-head": ("model.safetensors", struct.pack("<Q", 2**63) + b"{}"),
    "weights-head-list": ("model.safetensors", head("[]")),
    "weights-head-deep": ("model.safetensors", head(DEEP)),
    "weights-no-shape": ("model.safetensors", head('{"model.embed_tokens.weight": {"dtype": "F32"}}')),
    "weights-entry-number": ("model.safetensors", head('{"model.embed_tokens.weight": 3}')),
    "weights-metadata-alone": ("model.safetensors", head('{"__metadata__": {"format": "pt"}}')),
    "index-outside": ("model.safetensors.index.json", '{"weight_map": {"a": "../../other.safetensors"}}'),
    "index-absolute": ("model.safetensors.index.json", '{"weight_map": {"a": "/etc/passwd"}}'),
    "index-windows": ("model.safetensors.index.json", '{"weight_map": {"a": "..\\\\other.safetensors"}}'),
    "index-number": ("model.safetensors.index.json", '{"weight_map": {"a": 3}}'),
    "index-list": ("model.safetensors.index.json", "[]"),
    "index-missing-file": ("model.safetensors.index.json", '{"weight_map": {"a": "nosuch.safetensors"}}'),
}


def refused(folder, backend):
    start = time.perf_counter()
    with pytest.raises(ModelError) as refusal:
        outrider.load(folder, backend=backend)
    assert time.perf_counter() - start < 5
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400 + len(str(folder))


@pytest.mark.parametrize("lie", [*CONFIGS, *FILES])
@pytest.mark.parametrize("backend", ["torch", "mlx", "native"])
def test_a_folder_that_lies(tmp_path, honest, backend, lie):
    if backend != "torch":
        pytest.importorskip({"mlx": "mlx_lm", "native": "outrider_native"}[backend])
    files = dict(honest)
    if lie in CONFIGS:
        files["config.json"] = json.dumps(json.loads(files["config.json"]) | CONFIGS[lie]).encode()
    else:
        name, content = FILES[lie]
        files[name] = content if isinstance(content, bytes) else content.encode()
        if name.endswith("index.json"):
            del files["model.safetensors"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    refused(tmp_path, backend)


def test_what_an_index_names_need_not_lie_in_the_folder_itself(tmp_path, honest):
    """Caches of the hub hold links to files elsewhere."""
    folder, elsewhere = tmp_path / "model", tmp_path / "blob"
    folder.mkdir()
    for name, content in honest.items():
        (folder / name).write_bytes(content)
    (folder / "model.safetensors").rename(elsewhere)
    (folder / "part.safetensors").symlink_to(elsewhere)
    names = json.loads(elsewhere.read_bytes()[8 : 8 + int.from_bytes(elsewhere.read_bytes()[:8], "little")])
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {name: "part.safetensors" for name in names if name != "__metadata__"}})
    )
    assert outrider.load(folder, backend="torch").traits.layers == 2


@pytest.mark.parametrize("backend", ["torch", "mlx", "native"])
def test_what_an_index_names_outside_is_not_read_even_where_it_is_there(tmp_path, honest, backend):
    if backend != "torch":
        pytest.importorskip({"mlx": "mlx_lm", "native": "outrider_native"}[backend])
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in honest.items():
        ((tmp_path if name == "model.safetensors" else folder) / name).write_bytes(content)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"lm_head.weight": "../model.safetensors"}}')
    with pytest.raises(ModelError, match="not a file in the folder"):
        outrider.load(folder, backend=backend)


def test_a_broken_tokenizer_beside_any_kind_of_model(tmp_path):
    folder = saved(tmp_path, "Olmo2", **SMALL)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"the tokenizer of [^\n]* cannot be read: "):
        outrider.load(folder, backend="torch")


def without(folder, name):
    """Take a weight out of a folder."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


MISSING = [
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
    "model.layers.1.self_attn.v_proj.weight",
    "model.layers.0.mlp.down_proj.weight",
    "model.layers.1.input_layernorm.weight",
]


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("backend", ["torch", "mlx", "native"])
def test_a_weight_that_is_missing_is_named_before_any_is_read(tmp_path, honest, backend, name, monkeypatch):
    if backend != "torch":
        pytest.importorskip({"mlx": "mlx_lm", "native": "outrider_native"}[backend])
    for file, content in honest.items():
        (tmp_path / file).write_bytes(content)
    without(tmp_path, name)
    monkeypatch.setattr("safetensors.torch.load_file", None)
    with pytest.raises(ModelError, match=rf"^the weights of [^\n]* lack {name}: download them again$"):
        outrider.load(tmp_path, backend=backend)


def saved(folder, kind, **settings):
    """A tiny model of another kind."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(vocab_size=32, **settings)
    getattr(transformers, f"{kind}ForCausalLM")(config).save_pretrained(folder)
    return folder


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Qwen2", "self_attn.k_proj.bias"),
        ("Qwen3", "self_attn.q_norm.weight"),
        ("Llama", "self_attn.o_proj.bias"),
        ("Llama", "mlp.up_proj.bias"),
        ("Olmo2", "self_attn.q_norm.weight"),
        ("StableLm", "mlp.up_proj.weight"),
    ],
)
def test_a_weight_that_could_be_taken_for_one_the_model_has_not(tmp_path, kind, name):
    biases = {"attention_bias": True, "mlp_bias": True} if kind == "Llama" else {}
    folder = saved(tmp_path, kind, **SMALL, **biases)
    outrider.load(folder)
    without(folder, f"model.layers.1.{name}")
    with pytest.raises(ModelError, match=rf"^the weights (of [^\n]* )?lack model.layers.1.{name}: download"):
        outrider.load(folder)


def test_an_index_that_names_a_file_that_is_not_there(tmp_path, honest):
    for file, content in honest.items():
        (tmp_path / file).write_bytes(content)
    (tmp_path / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    names = {"model.norm.weight": "model-1.safetensors", "lm_head.weight": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    with pytest.raises(ModelError, match=r"model-2\.safetensors does not exist, and the index beside it names it"):
        outrider.load(tmp_path)
