"""GGUF files that lie are refused in one line; over most of these llama.cpp ends the process, or never ends itself."""

import struct

import numpy as np
import pytest

from opener import Opener
from tiny import gguf as tiny_gguf
from tiny.gguf import WORDS

pytest.importorskip("llama_cpp")
gguf = pytest.importorskip("gguf")
NAN = float("nan")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return tiny_gguf.save(tmp_path_factory.mktemp("gguf") / "tiny.gguf", words=WORDS).read_bytes()


@pytest.fixture(scope="module")
def opener():
    opener = Opener()
    yield opener
    opener.close()


@pytest.fixture
def refused(opener):
    def refused(file):
        refusal = opener.refusal(file)
        assert "\n" not in refusal
        assert len(refusal) < 400 + len(str(file))
        return refusal

    return refused


def setting(data, key, value, code="<I"):
    """The file with another number for a setting."""
    at = data.index(key.encode()) + len(key) + 4
    return data[:at] + struct.pack(code, value) + data[at + struct.calcsize(code) :]


def length(data, key, count):
    """The file with another number of entries in an array."""
    at = data.index(key.encode()) + len(key) + 4 + 4
    return data[:at] + struct.pack("<Q", count) + data[at + 8 :]


def tensor(data, name, place, value, code="<Q"):
    """The file with another number in what is said of a tensor; `place` counts bytes from its number of dimensions."""
    at = data.index(name.encode()) + len(name) + place
    return data[:at] + struct.pack(code, value) + data[at + struct.calcsize(code) :]


LIES = {
    "no-layers": lambda data: setting(data, "llama.block_count", 0),
    "more-layers-than-possible": lambda data: setting(data, "llama.block_count", 10**9),
    "layers-that-are-not-there": lambda data: setting(data, "llama.block_count", 9),
    "no-context": lambda data: setting(data, "llama.context_length", 0),
    "endless-context": lambda data: setting(data, "llama.context_length", 2**32 - 1),
    "another-width": lambda data: setting(data, "llama.embedding_length", 2**31),
    "no-heads": lambda data: setting(data, "llama.attention.head_count", 0),
    "epsilon-nan": lambda data: setting(data, "llama.attention.layer_norm_rms_epsilon", NAN, "<f"),
    "epsilon-negative": lambda data: setting(data, "llama.attention.layer_norm_rms_epsilon", -1.0, "<f"),
    "rotation-odd": lambda data: setting(data, "llama.rope.dimension_count", 3),
    "rotation-huge": lambda data: setting(data, "llama.rope.dimension_count", 10**9),
    "rotation-none": lambda data: setting(data, "llama.rope.dimension_count", 0),
    "endless-tokens": lambda data: length(data, "tokenizer.ggml.tokens", 2**40),
    "endless-scores": lambda data: length(data, "tokenizer.ggml.scores", 2**62),
    "fewer-scores": lambda data: length(data, "tokenizer.ggml.scores", 3),
    "scores-of-texts": lambda data: setting(data, "tokenizer.ggml.scores", 8),
    "nested-arrays": lambda data: setting(data, "tokenizer.ggml.scores", 9),
    "unknown-type": lambda data: setting(data, "tokenizer.ggml.scores", 77),
    "many-dimensions": lambda data: tensor(data, "token_embd.weight", 0, 2**31, "<I"),
    "empty-tensor": lambda data: tensor(data, "token_embd.weight", 4, 0),
    "endless-tensor": lambda data: tensor(data, "token_embd.weight", 4, 2**62),
    "negative-tensor": lambda data: tensor(data, "token_embd.weight", 4, 2**64 - 1),
    "unknown-tensor-type": lambda data: tensor(data, "token_embd.weight", 20, 99, "<I"),
    "tensor-of-integers": lambda data: tensor(data, "blk.0.attn_q.weight", 20, 26, "<I"),
    "tensor-beyond-the-end": lambda data: tensor(data, "token_embd.weight", 24, 2**60),
    "empty": lambda data: b"",
    "magic-alone": lambda data: data[:4],
    "version": lambda data: data[:4] + struct.pack("<I", 99) + data[8:],
    "endless-tensors": lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:],
    "endless-settings": lambda data: data[:16] + struct.pack("<Q", 2**60) + data[24:],
    "endless-key": lambda data: data[:24] + struct.pack("<Q", 2**62) + data[32:],
    "key-that-is-no-text": lambda data: data[:32] + b"\xff" + data[33:],
    "half": lambda data: data[: len(data) // 2],
    "cut-in-the-header": lambda data: data[:300],
    "last-byte-missing": lambda data: data[:-1],
}


@pytest.mark.parametrize("lie", LIES)
def test_numbers_that_cannot_be_true(tmp_path, honest, refused, lie):
    file = tmp_path / "lying.gguf"
    file.write_bytes(LIES[lie](honest))
    refused(file)


TEXT, NUMBER, ARRAY = gguf.GGUFValueType.STRING, gguf.GGUFValueType.UINT32, gguf.GGUFValueType.ARRAY
SETTINGS = {
    "experts": ("llama.expert_count", 10**6, NUMBER),
    "experts-of-none": ("llama.expert_used_count", 5, NUMBER),
    "scaling": ("llama.rope.scaling.type", "nosuch", TEXT),
    "layers-as-text": ("llama.block_count", "two", TEXT),
    "architecture-as-number": ("general.architecture", 3, NUMBER),
    "architecture-unknown": ("general.architecture", "nosuch", TEXT),
    "tokenizer-of-encoders": ("tokenizer.ggml.model", "bert", TEXT),
    "tokens-as-numbers": ("tokenizer.ggml.tokens", [1] * len(WORDS), ARRAY),
    "tokens-without-bytes": ("tokenizer.ggml.tokens", [word.replace("<0x", "<") for word in WORDS], ARRAY),
    "tokens-of-one-name": ("tokenizer.ggml.tokens", [*WORDS[:-1], WORDS[-2]], ARRAY),
    "tokens-of-one-name-before-a-zero": ("tokenizer.ggml.tokens", [*WORDS[:-1], f"{WORDS[-2]}\0"], ARRAY),
    "alignment": ("general.alignment", 3, NUMBER),
}


@pytest.mark.parametrize("lie", SETTINGS)
def test_settings_that_cannot_be_true(tmp_path, monkeypatch, refused, lie):
    add_tokenizer = tiny_gguf.add_tokenizer

    def add(writer, words, chat_template):
        add_tokenizer(writer, words, chat_template)
        key, value, kind = SETTINGS[lie]
        writer.kv_data[0].pop(key, None)
        writer.add_key_value(key, value, kind)

    monkeypatch.setattr(tiny_gguf, "add_tokenizer", add)
    refused(tiny_gguf.save(tmp_path / "lying.gguf", words=WORDS))


@pytest.mark.parametrize(
    ("architecture", "key", "value"),
    [
        *((name, "rope.dimension_count", 4) for name in ("qwen2", "qwen3", "qwen3moe", "olmo2")),
        *((name, "attention.sliding_window_pattern", 1) for name in ("gemma2", "gemma3")),
        ("qwen2", "expert_group_count", 2),
    ],
)
def test_settings_over_which_llama_cpp_ends_the_process(tmp_path, refused, architecture, key, value):
    def settings(writer):
        writer.kv_data[0].pop(f"{architecture}.{key}", None)
        writer.add_uint32(f"{architecture}.{key}", value)

    refused(tiny_gguf.save(tmp_path / "lying.gguf", architecture, words=WORDS, settings=settings))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("token_embd.weight", np.float64),
        ("blk.0.attn_q.weight", np.int32),
        ("blk.0.attn_norm.weight", np.float16),
        ("blk.0.attn_norm.weight", np.int8),
    ],
)
def test_tensors_of_a_type_that_llama_cpp_does_not_compute(tmp_path, refused, name, kind):
    tensors = tiny_gguf.weights("llama", len(WORDS))
    tensors[name] = tensors[name].astype(kind)
    assert name in refused(tiny_gguf.save(tmp_path / "lying.gguf", words=WORDS, tensors=tensors))
