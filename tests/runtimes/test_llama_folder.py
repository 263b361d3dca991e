"""Opening a folder: in our own forward pass where that is surely right, in transformers otherwise."""

import json
import random
from contextlib import suppress
from pathlib import Path

import pytest

import outrider
from outrider import ModelError
from tiny import model as tiny_model
from tiny.runtimes import GEMMA, SLIDING, VOCABULARY, tiny
from tiny.sessions import fresh, same

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

OURS = {
    "llama": ("Llama", {}),
    "llama-bias": ("Llama", {"attention_bias": True}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "mistral": ("Mistral", {"sliding_window": None}),
}
LEFT_TO_TRANSFORMERS = {
    "mistral-sliding": ("Mistral", SLIDING),
    "gemma3": ("Gemma3Text", GEMMA),
    "gpt-neox": ("GPTNeoX", {}),
    "llama-scaled-positions": (
        "Llama",
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}},
    ),
}


def save(folder, kind, settings, **saving):
    model = tiny(kind, **settings)
    model.save_pretrained(folder, **saving)
    tokens = random.Random(0).choices(range(VOCABULARY), k=30)
    with torch.inference_mode():
        return tokens, model(torch.tensor([tokens])).logits[0].double().numpy()


@pytest.mark.parametrize("name", [*OURS, *LEFT_TO_TRANSFORMERS])
def test_a_folder_has_the_logits_of_transformers(tmp_path, name):
    tokens, expected = save(tmp_path, *(OURS | LEFT_TO_TRANSFORMERS)[name])
    model = outrider.load(tmp_path, dtype="float32", device="cpu")
    same(fresh(model, tokens, 30), expected)
    assert (type(model).__name__ == "LlamaModel") == (name in OURS)
    assert (model.traits.vocab_size, model.traits.context_length, model.tokenizer) == (VOCABULARY, 256, None)


def test_weights_in_several_files(tmp_path):
    tokens, expected = save(tmp_path, "Llama", {}, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    same(fresh(outrider.load(tmp_path, dtype="float32", device="cpu"), tokens, 30), expected)


def test_a_damaged_folder_is_refused_in_one_line(tmp_path):
    save(tmp_path, "Llama", {})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is damaged") as caught:
        outrider.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_weight_is_named(tmp_path):
    save(tmp_path, "Llama", {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ModelError, match=r"the weights lack model\.layers\.3"):
        outrider.load(tmp_path)


# Files of others

EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").write_text("ran")
Path({ran!r}).write_text("ran")
class EvilConfig: pass
class EvilForCausalLM: pass
class EvilTokenizer: pass
"""


def with_code(folder, **files):
    """A tiny model whose configuration files name Python code beside them."""
    tiny_model.save(folder)
    (folder / "evil.py").write_text(EVIL.format(ran=str(folder / "ran")))
    for name, settings in files.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


@pytest.mark.parametrize("backend", ["torch", "mlx", "native", "auto"])
@pytest.mark.parametrize(
    "files",
    [
        {
            "config": {
                "model_type": "evil",
                "architectures": ["EvilForCausalLM"],
                "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilForCausalLM"},
            }
        },
        {
            "tokenizer_config": {
                "tokenizer_class": "EvilTokenizer",
                "auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", "evil.EvilTokenizer"]},
            }
        },
        {"config": {"model_file": "evil.py"}},
    ],
    ids=["config", "tokenizer", "model-file"],
)
def test_code_of_a_folder_never_runs_unasked(tmp_path, monkeypatch, capsys, backend, files):
    """Not even where standard input says yes."""
    if backend != "torch":
        pytest.importorskip({"mlx": "mlx_lm"}.get(backend, "outrider_native"))
    folder = with_code(tmp_path / "model", **files)
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    if backend != "mlx" and "model_file" in files.get("config", {}):
        outrider.load(folder, backend=backend)  # a name that only mlx-lm looks at
    elif backend == "native" and "config" in files:
        with suppress(ModelError):  # it knows the shape of a model by its numbers
            outrider.load(folder, backend=backend)
    else:
        with pytest.raises(ModelError, match=r"^[^\n]*(--trust-remote-code|evil)[^\n]*$"):
            outrider.load(folder, backend=backend)
    assert not (folder / "ran").exists()
    assert capsys.readouterr().out == ""


def test_a_broken_tokenizer_is_not_said_to_be_missing(tmp_path):
    folder = tiny_model.save(tmp_path / "model")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"the tokenizer of .* cannot be read: "):
        outrider.load(folder)


def test_pickled_code_is_refused_in_one_line(tmp_path):
    torch = pytest.importorskip("torch")
    folder = tiny_model.save(tmp_path / "model")
    (folder / "model.safetensors").unlink()

    class Evil:
        def __reduce__(self):
            return (Path.touch, (folder / "ran",))

    torch.save({"weights": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError) as refusal:
        outrider.load(folder)
    assert "\n" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)
    assert "safetensors" in str(refusal.value)
    assert not (folder / "ran").exists()
