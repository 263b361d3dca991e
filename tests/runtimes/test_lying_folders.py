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
    "context-as-text": {"max_position_embeddings": "long"},
    "no-context": {"max_position_embeddings": 0},
    "architectures-as-number": {"architectures": 7},
    "architectures-of-numbers": {"architectures": [7]},
    "architecture-unknown": {"architectures": ["Nosuch"], "model_type": "nosuch"},
    "type-as-list": {"model_type": ["llama"]},
    "rotation-as-number": {"rope_parameters": 5},
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
@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_folder_that_lies(tmp_path, honest, backend, lie):
    if backend == "mlx":
        pytest.importorskip("mlx_lm")
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
