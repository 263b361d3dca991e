"""Opening a folder: in our own forward pass where that is surely right, in transformers otherwise."""

import json
import random

import pytest
from test_sessions import GEMMA, SLIDING, VOCABULARY, fresh, same, tiny

import outrider
from outrider import ModelError

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
    with pytest.raises(ModelError, match="cannot be opened") as caught:
        outrider.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_missing_weight_is_named(tmp_path):
    save(tmp_path, "Llama", {})
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(ModelError, match=r"the weights lack model\.layers\.3"):
        outrider.load(tmp_path)
