"""Files in the native runtime: the numbers of GGUF files and folders, tokenizers, and files that lie."""

import json
import re
import struct
import sys
from functools import partial

import numpy as np
import pytest

import outrider
from outrider import ModelError
from outrider.runtimes.backends import find_backend
from outrider.runtimes.llamacpp.checks import check_file
from outrider.runtimes.native import loading
from outrider.runtimes.native.weights import SafetensorsSource
from runtimes.test_lying_folders import CONFIGS
from runtimes.test_lying_gguf import LIES
from runtimes.test_native import at_once
from tiny import gguf as tiny_gguf
from tiny import native as tiny_native
from tiny.gguf import WORDS
from tiny.runtimes import tiny
from tiny.sessions import text

library = tiny_native.library()


def in_native(file, **settings):
    return outrider.load(file, backend="native", threads=1, **settings)


# The numbers of the files


def test_a_gguf_file_and_a_folder_of_the_same_model_have_the_same_bits(tmp_path):
    tensors = tiny_gguf.weights("qwen3", 48)
    file = tiny_gguf.save(tmp_path / "tiny.gguf", "qwen3", tensors=tensors)
    of_file = in_native(file)
    of_folder = tiny_native.of_transformers(tiny_gguf.as_transformers(tensors), "float32")
    tokens = text(of_file, 40)
    found = at_once(outrider.load(file, backend="native", cache_type="float32"), tokens)
    assert np.array_equal(found, at_once(of_folder, tokens))
    assert not np.array_equal(found, at_once(of_file, tokens))  # keys and values in float16


def test_a_model_that_is_larger_than_the_free_memory_opens_with_a_warning(tmp_path, monkeypatch):
    """Linux ends a process that uses more than there is, without a word."""
    file = tiny_gguf.save(tmp_path / "tiny.gguf", "qwen3")
    size = file.stat().st_size
    monkeypatch.setattr(loading, "free_host_bytes", lambda: size)
    in_native(file)
    monkeypatch.setattr(loading, "free_host_bytes", lambda: size - 1)
    with pytest.warns(RuntimeWarning, match="the weights of model tiny take .* GB and .* GB of memory are free"):
        in_native(file)


def test_opening_says_how_far_it_is(tmp_path):
    file = tiny_gguf.save(tmp_path / "tiny.gguf", "qwen3")
    said = []
    opened = in_native(file, progress=said.append)
    layers = opened.traits.layers
    assert said[1:] == [f"opening tiny: {number} of {layers} layers" for number in range(1, layers + 1)]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what lies in memory")
@pytest.mark.parametrize("form", ["file", "folder"])
def test_what_was_packed_does_not_lie_in_memory_twice(tmp_path, form):
    """The weights of a file of 5 GB counted as 10, as long as the model was open."""
    if form == "file":
        file = opened_from = tiny_gguf.save(tmp_path / "tiny.gguf", "qwen3")
    else:
        opened_from = tmp_path
        tiny("Llama").save_pretrained(tmp_path)
        (file,) = opened_from.glob("*.safetensors")
    opened = in_native(opened_from)
    assert opened.embedding().size  # read once more, and let go of once more
    with open("/proc/self/smaps", encoding="utf-8") as maps:
        lines = maps.read().splitlines()
    of_file = [number for number, line in enumerate(lines) if line.endswith(str(file))]
    assert of_file  # it stays readable
    assert all(next(line for line in lines[number:] if line.startswith("Rss:")).split()[1] == "0" for number in of_file)


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "mixtral", "olmoe", "qwen2moe", "qwen3moe"])
def test_gguf_files_are_what_llama_cpp_computes(tmp_path, architecture):
    """In Llama's files the rows of queries and keys stand in pairs."""
    pytest.importorskip("llama_cpp")
    file = tiny_gguf.save(tmp_path / "tiny.gguf", architecture)
    ours, theirs = (
        outrider.load(file, backend=backend, threads=1, cache_type="float32") for backend in ("native", "llama")
    )
    tokens = text(ours, 40)
    np.testing.assert_allclose(at_once(ours, tokens), at_once(theirs, tokens), atol=2e-3, rtol=1e-3)


def gemma2_settings(writer):
    writer.add_attn_logit_softcapping(3.0)
    writer.add_final_logit_softcapping(5.0)


def gemma3_settings(writer):
    writer.add_rope_scaling_type(pytest.importorskip("gguf").RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(4.0)


def yarn_settings(writer, length=64):
    writer.add_rope_scaling_type(pytest.importorskip("gguf").RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(length)


def olmo3_settings(writer):
    yarn_settings(writer)
    writer.add_rope_scaling_attn_factors(1.3)
    writer.add_sliding_window(tiny_gguf.WINDOW)


def mistral3_settings(writer):
    """Queries that grow every 16 tokens."""
    yarn_settings(writer, length=16)
    numbers = {"yarn_log_multiplier": 0.7, "yarn_beta_fast": 8.0, "yarn_beta_slow": 2.0}
    for key, value in numbers.items():
        writer.add_float32(f"mistral3.rope.scaling.{key}", value)
    writer.add_float32("mistral3.attention.temperature_scale", 0.5)


def granite_settings(writer):
    writer.add_embedding_scale(3.0)
    writer.add_attention_scale(0.2)
    writer.add_residual_scale(0.5)
    writer.add_logit_scale(2.0)


def phi3_settings(writer, length=256):
    """Longrope: other factors, and for how long a text they hold. llama.cpp takes room for 256 tokens at least."""
    writer.add_rope_scaling_orig_ctx_len(length)
    writer.add_rope_scaling_attn_factors(1.2)
    writer.add_tensor("rope_factors_short.weight", np.array([1.5, 2.5], np.float32))
    writer.add_tensor("rope_factors_long.weight", np.array([8.0, 9.0], np.float32))


# Seven layers: one of Gemma 3 without a window is among them, and one of OLMo 3.
FAMILIES = {
    "gemma": (2, lambda writer: None),
    "gemma2": (3, gemma2_settings),
    "gemma3": (7, gemma3_settings),
    "gpt-oss": (3, yarn_settings),
    "gemma3 with a cap": (3, lambda writer: writer.add_final_logit_softcapping(5.0)),
    "phi3": (2, lambda writer: None),
    "phi3 long": (2, phi3_settings),
    "granite": (2, granite_settings),
    "granitemoe": (2, granite_settings),
    "olmo2": (3, lambda writer: None),
    "olmo2 with windows": (7, lambda writer: writer.add_sliding_window(tiny_gguf.WINDOW)),
    "olmo2 with scaled rotations": (7, olmo3_settings),
    "mistral3": (2, mistral3_settings),
    "mistral3 with neither": (2, lambda writer: None),
    "seed_oss": (2, lambda writer: None),
    "ernie4_5": (2, lambda writer: None),
    "glm4": (2, lambda writer: None),
    "exaone4": (3, lambda writer: None),
    "exaone4 with windows": (64, lambda writer: None),
    "hunyuan-dense": (2, lambda writer: None),
    "llama with scaled rotations": (2, lambda writer: writer.add_rope_scaling_attn_factors(1.3)),
}


@pytest.mark.filterwarnings("ignore:.*longrope:RuntimeWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_files_of_other_families_are_near_what_llama_cpp_computes(tmp_path, family):
    """llama.cpp looks gelu up in a table of float16."""
    pytest.importorskip("llama_cpp")
    layers, settings = FAMILIES[family]
    file = tiny_gguf.save(tmp_path / "tiny.gguf", family.split()[0], layers=layers, settings=settings)
    ours, theirs = (
        outrider.load(file, backend=backend, threads=1, cache_type="float32") for backend in ("native", "llama")
    )
    tokens = text(ours, 40)
    expected = at_once(theirs, tokens)
    most = 1e-3 if family.startswith("gemma") else 1e-5
    assert np.abs(at_once(ours, tokens) - expected).mean() < most * expected.std()


def adds(**values):
    """Settings of an architecture by their names in GGUF files, `__` for a dot; `freqs` is a tensor."""

    def settings(writer):
        for name, value in values.items():
            if name == "freqs":
                writer.add_tensor("rope_freqs.weight", np.array(value, np.float32))
            else:
                add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
                add[type(value)](f"{writer.arch}.{name.replace('__', '.')}", value)

    return settings


ROTATIONS = {
    "no kind": {"rope__scaling__factor": 4.0},
    "older name": {"rope__scale_linear": 4.0},
    "linear, older name": {"rope__scaling__type": "linear", "rope__scale_linear": 4.0},
    "none": {"rope__scaling__type": "none", "rope__scaling__factor": 4.0},
    "factors, and none": {"freqs": [1, 2, 3, 4], "rope__scaling__type": "none", "rope__scaling__factor": 4.0},
}


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_rotations_are_scaled_as_llama_cpp_scales_them(tmp_path, rotation):
    """Where a file names a factor and no kind of scaling, that is linear."""
    pytest.importorskip("llama_cpp")
    file = tiny_gguf.save(tmp_path / "tiny.gguf", settings=adds(**ROTATIONS[rotation]))
    ours, theirs = (
        outrider.load(file, backend=backend, threads=1, cache_type="float32") for backend in ("native", "llama")
    )
    tokens = text(ours, 40)
    np.testing.assert_allclose(at_once(ours, tokens), at_once(theirs, tokens), atol=2e-3, rtol=1e-3)


# Rows of 256 numbers, and some of 32, for which llama.cpp takes another format: a file of Q4_K_M has eight in all.
FILE_TYPES = {
    "Q8_0": 7,
    "Q4_0": 2,
    "Q4_1": 3,
    "Q5_0": 8,
    "Q5_1": 9,
    "Q2_K": 10,
    "Q3_K_M": 12,
    "Q4_K_M": 15,
    "Q5_K_M": 17,
    "Q6_K": 18,
    "IQ4_XS": 30,
    "IQ4_NL": 25,
}


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_quantised_files_are_near_what_llama_cpp_computes(tmp_path, kind, monkeypatch):
    """Weights are the same numbers. Activations are rounded, by llama.cpp in larger blocks beside the K formats."""
    llama_loading = pytest.importorskip("outrider.runtimes.llamacpp.loading")
    source = tiny_gguf.save(tmp_path / "plain.gguf", tensors=tiny_gguf.weights("llama", 48, width=256, inner=512))
    file = tmp_path / f"{kind}.gguf"
    monkeypatch.setitem(llama_loading.FILE_TYPES, kind, FILE_TYPES[kind])
    llama_loading.convert(source, file, kind)
    ours, theirs = (
        outrider.load(file, backend=backend, threads=1, cache_type="float32") for backend in ("native", "llama")
    )
    tokens = text(ours, 40)
    theirs, exact = at_once(theirs, tokens), at_once(outrider.load(file, backend="native", dtype="float32"), tokens)
    assert np.abs(at_once(ours, tokens) - exact).mean() < 0.12 * exact.std()
    assert np.abs(theirs - exact).mean() < 0.2 * exact.std()


def test_experts_of_a_file_in_mxfp4_are_near_what_llama_cpp_computes(tmp_path, monkeypatch):
    """Its experts alone: the others are in 8 bits."""
    llama_loading = pytest.importorskip("outrider.runtimes.llamacpp.loading")
    source, file = tiny_gguf.save(tmp_path / "plain.gguf", "gpt-oss", settings=yarn_settings), tmp_path / "mxfp4.gguf"
    monkeypatch.setitem(llama_loading.FILE_TYPES, "MXFP4_MOE", 38)
    llama_loading.convert(source, file, "MXFP4_MOE")
    kinds = {name: tensor.kind for name, tensor in check_file(file).tensors.items()}
    assert {kinds[f"blk.0.ffn_{part}_exps.weight"] for part in ("gate", "up", "down")} == {39}
    ours, theirs = (
        outrider.load(file, backend=backend, threads=1, cache_type="float32") for backend in ("native", "llama")
    )
    tokens = text(ours, 40)
    theirs, exact = at_once(theirs, tokens), at_once(outrider.load(file, backend="native", dtype="float32"), tokens)
    assert np.abs(at_once(ours, tokens) - exact).mean() < 0.12 * exact.std()
    assert np.abs(theirs - exact).mean() < 0.12 * exact.std()


# Tokenizers

PIECES = [*"He lowrd 12345tab", "ll", "Ġw"]
TEXTS = (
    "Hello world",
    "  two  spaces\n\n\tand tabs ",
    "It's 12345.67 or 1,000!",
    "naïve café 日本語 🙂 ﷺ",
    "<|im_start|>user\nhi<|im_end|>",
    "def f(x):\n    return x**2  # squared\n",
    "WE'LL I'd THEY'RE",
    "",
)


@pytest.mark.smollm2
def test_the_tokenizer_of_smollm2_is_that_of_llama_cpp():
    pytest.importorskip("llama_cpp")
    ours, theirs = (outrider.load("smollm2", backend=backend).tokenizer for backend in ("native", "llama"))
    for prompt in TEXTS:
        assert ours.encode(prompt) == theirs.encode(prompt)
        assert ours.decode(ours.encode(prompt)) == theirs.decode(theirs.encode(prompt))
    conversation = [{"role": "user", "content": "What is a river?"}]
    assert ours.encode_chat(conversation) == theirs.encode_chat(conversation)
    assert ours.vocabulary == theirs.vocabulary
    assert ours.special_tokens == theirs.special_tokens
    assert ours.fingerprint == theirs.fingerprint


def test_the_tokenizer_of_a_folder_is_that_of_transformers(tmp_path):
    pytest.importorskip("transformers")
    from transformers import AutoTokenizer

    from outrider.runtimes.native.tokenizer import of_folder
    from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer
    from tiny import tokenizers as tiny_tokenizers

    tiny_tokenizers.byte_level(PIECES, added=["<|im_start|>"]).wrapped.save_pretrained(tmp_path)
    ours, theirs = of_folder(tmp_path), HuggingFaceTokenizer(AutoTokenizer.from_pretrained(tmp_path))
    for prompt in TEXTS:
        assert ours.encode(prompt) == theirs.encode(prompt)
        assert ours.decode(ours.encode(prompt)) == theirs.decode(theirs.encode(prompt))
    assert ours.vocabulary == theirs.vocabulary
    assert ours.fingerprint == theirs.fingerprint


def test_a_template_has_no_tools_and_no_documents_where_none_are_given(tmp_path):
    """As in transformers, where both are None: a template that asks `is not none` writes nothing of them."""
    from outrider.runtimes.native.tokenizer import of_folder
    from tiny import tokenizers as tiny_tokenizers

    tiny_tokenizers.byte_level(PIECES).wrapped.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(
        "{% if tools is not none %}1{% endif %}{% if documents is not none %}2{% endif %}{{ messages[0].content }}"
    )
    tokenizer = of_folder(tmp_path)
    assert tokenizer.decode(tokenizer.encode_chat([{"role": "user", "content": "Hello"}])) == "Hello"
    assert tokenizer.decode(tokenizer.encode_chat([{"role": "user", "content": "Hello"}], [{"name": "f"}])) == "1Hello"


def test_a_tokenizer_that_is_not_read_here_is_that_of_llama_cpp(tmp_path):
    pytest.importorskip("llama_cpp")
    file = tiny_gguf.save(tmp_path / "tiny.gguf", words=WORDS, tokenizer="t5")
    assert type(in_native(file).tokenizer).__name__ == "LlamaTokenizer"
    assert in_native(file).tokenizer.encode("the cat sat") == outrider.load(file).tokenizer.encode("the cat sat")


@pytest.mark.parametrize(
    "name",
    ["blk.0.attn_sinks.weight", "blk.1.attn_q_norm.weight", "blk.0.ffn_up.bias", "blk.0.attn_norm.bias", "output.bias"],
)
def test_a_file_with_weights_that_would_be_left_out_is_not_computed_here(tmp_path, name):
    tensors = tiny_gguf.weights("llama", 48)
    file = tiny_gguf.save(tmp_path / "tiny.gguf", tensors=tensors | {name: np.ones(4, np.float32)})
    with pytest.raises(ModelError, match=f"not for the native runtime: it has {re.escape(name)}"):
        in_native(file)
    assert find_backend(str(file)) != "native"


NOT_COMPUTED = {
    "factors, and linear": {"freqs": [1, 2, 3, 4], "rope__scaling__factor": 4.0},
    "factors, and YaRN": {"freqs": [1, 2, 3, 4], "rope__scaling__type": "yarn", "rope__scaling__factor": 4.0},
    "not causal": {"attention__causal": False},
    "further tokens": {"nextn_predict_layers": 1},
    "another part with a window": {"rope__dimension_count_swa": 4},
}


def test_a_factor_of_rotations_with_a_window_of_their_own_is_refused(tmp_path):
    file = tiny_gguf.save(tmp_path / "tiny.gguf", "gemma3", settings=adds(rope__scaling__attn_factor=1.3))
    with pytest.raises(ModelError, match="has an attn_factor"):
        in_native(file)


@pytest.mark.parametrize("setting", NOT_COMPUTED)
def test_settings_that_change_the_numbers_and_are_not_computed_are_refused(tmp_path, setting):
    file = tiny_gguf.save(tmp_path / "tiny.gguf", settings=adds(**NOT_COMPUTED[setting]))
    with pytest.raises(ModelError, match="not for the native runtime"):
        in_native(file)
    assert find_backend(str(file)) != "native"


def test_a_file_with_more_layers_than_it_says_is_refused(tmp_path):
    tensors = tiny_gguf.weights("llama", 48, layers=4)
    file = tiny_gguf.save(tmp_path / "tiny.gguf", tensors=tensors)
    with pytest.raises(ModelError, match=r"it has blk\.3\.\S+ and says that it has 3 layers"):
        in_native(file)


# Files that lie


def refused(name):
    with pytest.raises(ModelError) as refusal:
        in_native(name)
    assert "\n" not in str(refusal.value)
    assert find_backend(str(name)) in ("torch", "native", "llama")  # it never fails


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return tiny_gguf.save(tmp_path_factory.mktemp("gguf") / "tiny.gguf", words=WORDS).read_bytes()


@pytest.mark.parametrize("lie", LIES)
def test_gguf_files_that_cannot_be_true(tmp_path, honest, lie):
    file = tmp_path / "lying.gguf"
    file.write_bytes(LIES[lie](honest))
    refused(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("honest")
    tiny("Llama").save_pretrained(place)
    return {file.name: file.read_bytes() for file in place.iterdir()}


def copied(folder, place):
    for name, data in folder.items():
        (place / name).write_bytes(data)
    return place


@pytest.mark.parametrize("lie", CONFIGS)
def test_folders_that_contradict_themselves(tmp_path, folder, lie):
    copied(folder, tmp_path)
    config = json.loads(folder["config.json"]) | CONFIGS[lie]
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path)


YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}
HOSTILE = {
    "Gemma": {
        "another-activation": {"hidden_act": "relu"},
        "both-ways": {"use_bidirectional_attention": True},
    },
    "Gemma2": {
        "negative-scale": {"query_pre_attn_scalar": -4},
        "no-scale": {"query_pre_attn_scalar": 0},
        "scale-as-text": {"query_pre_attn_scalar": "16"},
        "scale-true": {"query_pre_attn_scalar": True},
        "endless-scale": {"query_pre_attn_scalar": 10**400},
        "negative-cap": {"attn_logit_softcapping": -1.0},
        "no-cap": {"final_logit_softcapping": 0},
        "cap-that-is-none": {"final_logit_softcapping": float("nan")},
        "window-as-text": {"sliding_window": "5"},
        "no-window": {"sliding_window": None},
        "too-few-layer-types": {"layer_types": ["full_attention"]},
        "unknown-layer-types": {"layer_types": ["chunked_attention"] * 3},
    },
    "Granite": {
        "negative-scale": {"residual_multiplier": -1.0},
        "divided-by-nothing": {"logits_scaling": 0},
        "scale-as-text": {"embedding_multiplier": "2"},
        "scale-null": {"attention_multiplier": None},
    },
    "Phi3": {
        "odd-share": {"partial_rotary_factor": 0.4, "rope_parameters": None},
        "more-than-a-head": {"partial_rotary_factor": 1.5, "rope_parameters": None},
        "another-rotation": {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
        "too-few-factors": {"rope_scaling": {"type": "longrope", "short_factor": [1.0]}},
        "factors-as-text": {"rope_scaling": {"type": "longrope", "short_factor": ["a"] * 4}},
        "factors-of-0": {"rope_scaling": {"type": "longrope", "short_factor": [0] * 4}},
        "length-as-text": {
            "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4},
            "original_max_position_embeddings": "64",
        },
    },
    "GptOss": {
        "another-limit": {"swiglu_limit": 6.0},
        "another-slope": {"swiglu_alpha": 1.0},
        "no-rotation": {"rope_parameters": None},
        "another-quantisation": {"quantization_config": {"quant_method": "gptq"}},
    },
    "Ministral3": {
        "no-rotation": {"rope_parameters": None},
        "queries-unsaid": {"rope_parameters": YARN},
        "steps-of-0": {"rope_parameters": YARN | {"llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 0}},
        "falling-queries": {"rope_parameters": YARN | {"llama_4_scaling_beta": -0.1}},
    },
    "Glm4": {"more-than-a-head": {"rope_parameters": None, "partial_rotary_factor": 1.5}},
    "HunYuanDenseV1": {
        "alpha-as-text": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "alpha": "many"}},
        "dynamic": {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
    },
    "Olmo2": {"another-activation": {"hidden_act": "gelu"}, "windows": {"layer_types": ["sliding_attention"] * 3}},
    "Gemma3Text": {
        "capped-attention": {"attn_logit_softcapping": 5.0},
        "another-activation": {"hidden_activation": "gelu"},
        "one-rotation": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}},
        "rotations-as-list": {"rope_parameters": {"full_attention": [1]}},
        "rotation-without-base": {"rope_parameters": {"full_attention": {"rope_theta": -1.0}}},
        "endless-pattern": {"layer_types": None, "sliding_window_pattern": 0},
    },
}


@pytest.mark.parametrize(("kind", "lie"), [(kind, lie) for kind in HOSTILE for lie in HOSTILE[kind]])
def test_settings_of_other_families_that_cannot_be_true_are_refused(tmp_path, kind, lie):
    tiny(kind, pad_token_id=0).save_pretrained(tmp_path)
    in_native(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | HOSTILE[kind][lie]
    (tmp_path / "config.json").write_text(json.dumps(config))
    refused(tmp_path)


# As the hub has them: with other names, and without what transformers has defaults for.
OLDER = {
    "Gemma3Text": (
        {"rope_theta": 5000.0, "rope_local_base_freq": 100.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        ("rope_parameters", "layer_types", "tie_word_embeddings", "hidden_activation", "query_pre_attn_scalar"),
        {"num_hidden_layers": 7, "sliding_window": 5},
    ),
    "Gemma2": (
        {"rope_theta": 5000.0, "hidden_act": "gelu_pytorch_tanh"},
        ("rope_parameters", "layer_types", "tie_word_embeddings", "attn_logit_softcapping", "query_pre_attn_scalar"),
        {"sliding_window": 5},
    ),
    "Olmo3": (
        {"rope_theta": 5000.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}},
        ("rope_parameters", "layer_types"),
        {"num_hidden_layers": 5, "sliding_window": 5},
    ),
    "Phi3": (
        {
            "rope_theta": 5000.0,
            "partial_rotary_factor": 0.5,
            "rope_scaling": {"type": "longrope", "short_factor": [1.5, 2.5], "long_factor": [8.0, 9.0]},
            "original_max_position_embeddings": 64,
            "auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"},
        },
        ("rope_parameters", "head_dim"),
        {"sliding_window": 5, "pad_token_id": 0},
    ),
    "Granite": ({"rope_theta": 5000.0}, ("rope_parameters", "residual_multiplier"), {"logits_scaling": 2.0}),
    "HunYuanDenseV1": (
        {"rope_theta": 5000.0, "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0}},
        ("rope_parameters",),
        {},
    ),
    "Glm4": ({"rope_theta": 5000.0, "partial_rotary_factor": 0.25}, ("rope_parameters",), {"pad_token_id": 0}),
    "Exaone4": (
        {"rope_theta": 5000.0, "sliding_window_pattern": "LLLG"},
        ("rope_parameters", "head_dim"),
        {"sliding_window": 5, "num_hidden_layers": 4},
    ),
    "GptOss": (
        {
            "rope_scaling": {
                "rope_type": "yarn",
                "factor": 4.0,
                "beta_fast": 16.0,
                "original_max_position_embeddings": 64,
                "truncate": False,
            },
            "experts_per_token": 2,
        },
        ("rope_parameters", "layer_types", "swiglu_alpha", "tie_word_embeddings"),
        {"num_local_experts": 6, "num_experts_per_tok": 2, "sliding_window": 5},
    ),
    "Gemma": ({"rope_theta": 5000.0, "hidden_act": "gelu"}, ("rope_parameters", "tie_word_embeddings"), {}),
}


TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 48,
    "max_position_embeddings": 256,
    "initializer_range": 0.4,
}
GROWING = YARN | {"original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.5}
# By the wrapper, what its text part says.
WRAPPED = {
    "Gemma3": [("gemma3_text", {"sliding_window": 5, "query_pre_attn_scalar": 16})],
    "Qwen3VL": [
        (
            "qwen3_vl_text",
            {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0, "mrope_section": [2, 1, 1]}},
        )
    ],
    "Mistral3": [("mistral", {"sliding_window": None}), ("ministral3", {"rope_parameters": GROWING})],
}


def wrapped(kind, number, place, **saved):
    """A model that reads images too, in a folder."""
    import torch
    import transformers

    torch.manual_seed(0)
    name, settings = WRAPPED[kind][number]
    eyes = {key: TEXT[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
    eyes |= {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    if kind == "Qwen3VL":
        eyes = {"depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 32}
        eyes |= {"num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = getattr(transformers, f"{kind}Config")(
        text_config=TEXT | settings | {"model_type": name},
        vision_config=eyes,
        eos_token_id=[1, 7],
        pad_token_id=0,
        tie_word_embeddings=kind == "Gemma3",
    )
    made = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
    made.save_pretrained(place, **saved)
    return made


@pytest.mark.parametrize("original", [True, False])
@pytest.mark.parametrize(
    ("kind", "number"), [(kind, number) for kind in WRAPPED for number in range(len(WRAPPED[kind]))]
)
def test_the_text_part_of_a_model_that_reads_images_is_that_of_transformers(tmp_path, kind, number, original):
    """Folders of the hub have other names of weights than those that transformers has in memory."""
    import torch

    made = wrapped(kind, number, tmp_path, save_original_format=original)
    assert find_backend(str(tmp_path)) == "native"
    model = tiny_native.open_folder(tmp_path, "float32")
    tokens = text(model, 40)
    with torch.inference_mode():
        expected = made(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(at_once(model, tokens), expected, rtol=1e-4, atol=2e-3)
    assert model.traits.stop_token_ids == {1, 7}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text_config": None}, "model_type of its text_config is None"),
        ({"text_config": TEXT | {"model_type": "llama"}}, "model_type of its text_config is 'llama'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "has quantization_config"),
    ],
)
def test_a_text_part_of_another_kind_is_refused(tmp_path, changes, told):
    wrapped("Mistral3", 1, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=told):
        in_native(tmp_path)
    refused(tmp_path)


@pytest.mark.filterwarnings("ignore:.*longrope:RuntimeWarning")
@pytest.mark.parametrize("kind", OLDER)
def test_settings_as_the_hub_has_them_are_those_of_transformers(tmp_path, kind):
    new, gone, sizes = OLDER[kind]
    tiny(kind, **sizes).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | new
    (tmp_path / "config.json").write_text(json.dumps({key: config[key] for key in config if key not in gone}))
    import torch
    from transformers import AutoModelForCausalLM

    model = tiny_native.open_folder(tmp_path, "float32")
    tokens = text(model, 40)
    with torch.inference_mode():
        made = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        expected = made(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(at_once(model, tokens), expected, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("from_file", [True, False])
def test_a_context_ends_where_its_rotations_change(tmp_path, from_file):
    if from_file:
        place, length = tiny_gguf.save(tmp_path / "tiny.gguf", "phi3", settings=partial(phi3_settings, length=128)), 128
    else:
        place, length = tmp_path, 64
        tiny("Phi3", pad_token_id=0).save_pretrained(tmp_path)
        long = {"type": "longrope", "short_factor": [1.5] * 4, "long_factor": [8.0] * 4}
        config = json.loads((tmp_path / "config.json").read_text())
        config |= {"rope_parameters": None, "rope_scaling": long, "original_max_position_embeddings": length}
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(RuntimeWarning, match=f"takes texts of up to {length} tokens here, not 256: .*longrope"):
        model = in_native(place)
    assert model.traits.context_length == length


@pytest.mark.parametrize("gone", ["post_feedforward_layernorm", "q_norm", "pre_feedforward_layernorm"])
def test_a_norm_that_is_not_there_is_missed(tmp_path, gone):
    from safetensors.numpy import load_file, save_file

    tiny("Gemma3Text").save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if gone not in name}, file)
    refused(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", b"\xff\xfe"),
        ("tokenizer_config.json", b'{"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "\\ud800"}'),
    ],
)
def test_a_tokenizer_that_cannot_be_read(tmp_path, folder, file, content):
    from tiny import tokenizers as tiny_tokenizers

    copied(folder, tmp_path)
    tiny_tokenizers.byte_level(PIECES).wrapped.save_pretrained(tmp_path)
    (tmp_path / file).write_bytes(content)
    refused(tmp_path)


def changed_entry(data, change):
    """A safetensors file in which `change` has changed the entry of one tensor."""
    (length,) = struct.unpack_from("<Q", data)
    head = json.loads(data[8 : 8 + length])
    change(head["model.layers.1.mlp.up_proj.weight"])
    written = json.dumps(head).encode()
    return struct.pack("<Q", len(written)) + written + data[8 + length :]


ENTRIES = {
    "beyond-the-end": {"data_offsets": [10**9, 10**9 + 48 * 32 * 4]},
    "endless": {"shape": [2**40, 2**20]},
    "negative": {"data_offsets": [-8, 48 * 32 * 4 - 8]},
    "too-short": {"data_offsets": [0, 8]},
    "backwards": {"data_offsets": [48 * 32 * 4, 0]},
    "no-offsets": {"data_offsets": None},
    "offset-of-text": {"data_offsets": ["0", "8"]},
    "no-shape": {"shape": 7},
    "other-shape": {"shape": [32, 48]},
    "flat": {"shape": [48 * 32]},
    "of-integers": {"dtype": "I64"},
    "no-type": {"dtype": None},
}


@pytest.mark.parametrize("lie", ENTRIES)
def test_weights_that_are_not_where_the_head_says(tmp_path, folder, lie):
    copied(folder, tmp_path)
    spoilt = changed_entry(folder["model.safetensors"], lambda entry: entry.update(ENTRIES[lie]))
    (tmp_path / "model.safetensors").write_bytes(spoilt)
    refused(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        (b"\0" * 34, "q8_0", "same", 2, 32, []),
        (b"\0" * 34, "q8_0", "same", 1, 64, []),
        (b"\0" * 34, "q8_0", "same", 1, 33, []),
        (b"\0" * 34, "q9_0", "same", 1, 32, []),
        (b"\0" * 34, "q8_0", "f16", 1, 32, []),
        (b"\0" * 34, "q8_0", "same", 1, 32, [1]),
        (b"\0" * 34, "q8_0", "same", 1, 32, [0, 0]),
        (b"", "f32", "same", 0, 0, []),
        (b"", "f32", "same", 2**62, 8, []),
    ],
)
def test_the_library_itself_packs_no_memory_that_is_not_there(arguments):
    data, *rest = arguments
    with pytest.raises(ValueError):
        library.pack(np.frombuffer(data, np.uint8), *rest, 1)


@pytest.mark.parametrize(("kind", "end"), [("I64", 13), ("F32", 16), ("I64", 24)])
def test_a_damaged_vector_of_whole_numbers_is_told_in_one_line(tmp_path, kind, end):
    """Two whole numbers whose header says something else: no NumPy error, and nothing read beyond them."""
    header = json.dumps({"d2t": {"dtype": kind, "shape": [2], "data_offsets": [0, end]}}).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    with pytest.raises(outrider.ModelError, match="d2t of"):
        SafetensorsSource([file]).integers("d2t")
