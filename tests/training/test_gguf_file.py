"""A Llama written as a GGUF file says what it said in its folder."""

import numpy as np
import pytest

from outrider import load
from outrider.maths.arrays import to_numpy
from outrider.runtimes.base import Pass
from tiny import gguf as tiny_gguf

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
VOCABULARY = 64


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from outrider.training.models.gguf_file import write_gguf

    transformers.set_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=128,
        initializer_range=0.2,  # attention says much
        tie_word_embeddings=True,
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    write_gguf(folder, tiny_gguf.save(folder / "target.gguf", vocabulary=VOCABULARY), folder / "model.gguf")
    return folder


@pytest.mark.parametrize("backend, module", [("native", "outrider_native"), ("llama", "llama_cpp")])
def test_it_says_the_same(folder, backend, module):
    pytest.importorskip(module)
    text = [7, 20, 33, 41, 12, 60, 3, 9, 9, 2, 50, 31]
    expected = logits(load(folder, backend="torch", dtype="float32"), text)
    found = logits(load(folder / "model.gguf", backend=backend), text)
    assert np.abs(expected - found).max() < 0.02 * np.abs(expected).max()


def logits(model, tokens):
    scored = model.open(1, 32).extend(Pass([0], [tokens], wanted=[len(tokens)]))
    scored.wait()
    return to_numpy(scored.logits)
