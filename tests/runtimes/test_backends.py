"""Which runtime a model goes to where nobody says so."""

import importlib.util
import json
import re
import warnings
from typing import get_args

import numpy as np
import pytest

import outrider
from outrider.runtimes import backends
from outrider.runtimes.backends import find_backend
from tiny import gguf as tiny_gguf
from tiny import model as tiny_model
from tiny.native import library


@pytest.fixture
def without(monkeypatch):
    """Hides modules, as if they were not installed."""

    def hide(*names):
        real = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else real(name))
        for name in names:
            monkeypatch.setitem(__import__("sys").modules, name, None)

    return hide


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(backends, "has_gpu", lambda: False)


@pytest.fixture
def native(no_gpu):
    return library()


@pytest.fixture
def folder(tmp_path):
    return tiny_model.save(tmp_path / "model")


@pytest.fixture
def file(tmp_path):
    pytest.importorskip("gguf")
    return tiny_gguf.save(tmp_path / "tiny.gguf", words=tiny_gguf.WORDS)


def test_every_backend_has_a_runtime():
    assert set(backends.RUNTIMES) == set(get_args(backends.Backend)) - {"auto"}
    assert all(importlib.util.find_spec(f"outrider.runtimes.{each.opened_by}") for each in backends.RUNTIMES.values())


def test_a_model_that_native_computes_goes_there(native, folder, file, tmp_path):
    unnamed = tmp_path / "unnamed"
    unnamed.write_bytes(file.read_bytes())
    for name in (folder, file, unnamed):
        assert find_backend(str(name)) == "native"
    assert type(outrider.load(folder)).__name__ == "NativeModel"


def test_a_file_whose_tokenizer_only_llama_reads_goes_elsewhere_without_it(native, file, tmp_path, without):
    other = tiny_gguf.save(tmp_path / "other.gguf", words=tiny_gguf.WORDS, tokenizer="t5")
    if importlib.util.find_spec("llama_cpp"):
        assert find_backend(str(other)) == "native"
    without("llama_cpp", "outrider.runtimes.llamacpp.loading")
    assert find_backend(str(other)) == "torch"
    assert find_backend(str(file)) == "native"
    with pytest.raises(outrider.ModelError, match=r"its tokenizer is b't5' with ''; pip install 'outrider\[llama\]'"):
        outrider.load(other, backend="native")


@pytest.mark.parametrize(
    "settings",
    [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "int8"}, {"device": "cuda"}, {"cache_type": "q8_0"}],
    ids=str,
)
def test_settings_of_another_runtime_go_there(native, folder, settings):
    assert find_backend(str(folder), **settings) == "torch"


def test_a_gpu_comes_first(native, folder, file, monkeypatch):
    monkeypatch.setattr(backends, "has_gpu", lambda: True)
    assert find_backend(str(folder)) == "torch"
    assert find_backend(str(folder), device="cpu") == "native"


def test_without_the_library_the_files_decide(no_gpu, folder, file, without, monkeypatch):
    without("outrider_native")
    assert find_backend(str(folder)) == "torch"
    assert find_backend("smollm2") == "torch"
    if importlib.util.find_spec("llama_cpp"):
        assert find_backend(str(file)) == "llama"
    without("outrider_native", "llama_cpp")
    assert find_backend(str(file)) == "torch"
    with pytest.raises(outrider.ModelError, match=re.escape("needs llama.cpp: pip install 'outrider[llama]'")):
        outrider.load(file, backend="llama")


@pytest.mark.parametrize(
    "change", [{"mlp_bias": True}, {"architectures": ["GemmaForCausalLM"]}, {"auto_map": {"a": "b"}}]
)
def test_a_model_that_native_does_not_compute_goes_to_pytorch(native, folder, change):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    assert find_backend(str(folder)) == "torch"


def test_mlx_folders_are_told_by_config_and_weights(native, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert find_backend(str(tmp_path)) == "torch"

    def weights(metadata):
        head = json.dumps({"__metadata__": metadata}).encode()
        (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head)

    weights({"format": "pt"})
    assert find_backend(str(tmp_path)) == "torch"
    weights({"format": "mlx"})
    assert find_backend(str(tmp_path)) == "mlx"
    weights({"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps({"quantization": {"group_size": 64, "bits": 4}}))
    assert find_backend(str(tmp_path)) == "mlx"


def test_a_model_of_the_hub_is_told_by_its_config(native, folder, cached_model):
    assert find_backend("some/thing-that-is-not-here") == "torch"
    name = cached_model(folder)
    assert find_backend(name) == "native"
    model = outrider.load(name)
    assert type(model).__name__ == "NativeModel"
    assert model.name == name


def test_eight_bits_are_near_the_weights(native, folder):
    """The default of a folder is rounded, and says nearly what the weights say."""
    tokens = list(range(3, 12))

    def last(model):
        return np.asarray(model.open(1, 32).extend(outrider.runtimes.base.Pass([0], [tokens], wanted=[1])).logits)

    exact = last(outrider.load(folder, backend="native", dtype="float32"))
    rounded = last(outrider.load(folder))
    apart = np.abs(exact - rounded).max()
    assert 0 < apart < 0.05 * np.abs(exact).max()


def test_a_library_of_another_version_is_refused_in_one_line_and_passed_over(native, folder, monkeypatch):
    expected = native.INTERFACE
    monkeypatch.setattr(native, "INTERFACE", 1)
    refusal = rf"interface 1 and this Outrider calls {expected}: .*pip install \./native in"
    with pytest.raises(outrider.ModelError, match=refusal):
        outrider.load(folder, backend="native")
    with pytest.warns(RuntimeWarning, match=refusal):
        assert find_backend(str(folder)) == "torch"
    (folder / "config.json").write_text(json.dumps({"architectures": ["GPT2LMHeadModel"]}))
    with warnings.catch_warnings():  # of a model that is not for it nothing is said
        warnings.simplefilter("error")
        assert find_backend(str(folder)) == "torch"
