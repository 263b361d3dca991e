"""Weights in 8 bits on a GPU, with the CPU in its place."""

import importlib.util

import pytest

from tiny.runtimes import tiny
from tiny.sessions import fresh, text

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outrider import load  # noqa: E402
from outrider.errors import SettingError  # noqa: E402
from outrider.runtimes.base import Pass  # noqa: E402
from outrider.runtimes.torch import quantised  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402
from tiny.standing import Stand  # noqa: E402


def test_logits_are_near_those_of_whole_weights():
    pytest.importorskip("torchao")
    plain = GraphedLlama.of(tiny("Llama"), device="cpu")
    narrow = GraphedLlama.of(tiny("Llama"), device="cpu", build=quantised.build_of("int8"))
    tokens = text(plain, 20)
    session = narrow.open(1, 64)
    found = session.extend(Pass([0], [tokens])).logits
    expected = torch.from_numpy(fresh(plain, tokens, 20))
    assert 0 < (found - expected).norm() < 0.05 * expected.norm()


def test_a_weight_and_its_bias_are_those_of_the_linear():
    pytest.importorskip("torchao")
    weight, bias, x = torch.randn(24, 64), torch.randn(24), torch.randn(3, 64)
    linear = quantised.quantised("int8", weight, bias)
    torch.testing.assert_close(linear(x), torch.nn.functional.linear(x, weight, bias), rtol=0.05, atol=0.2)
    assert linear.weight.qdata.dtype is torch.int8


def test_what_a_device_cannot_multiply_is_refused_in_one_line():
    pytest.importorskip("torchao")
    with pytest.raises(SettingError, match=r"weights cannot be in int4 here: .*; use bfloat16"):
        quantised.quantised("int4", torch.randn(256, 1024, dtype=torch.bfloat16), None)


@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_where_torchao_is_missing_it_is_named(dtype, tmp_path, monkeypatch):
    tiny("Llama").save_pretrained(tmp_path)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == "torchao" else find(name, *of))
    with Stand(), pytest.raises(SettingError, match=f"dtype {dtype} on a GPU needs torchao: pip install torchao"):
        load(tmp_path, backend="torch", device="cuda", dtype=dtype)


@pytest.mark.parametrize(("dtype", "backend"), [("int4", "torch"), ("int4", "native")])
def test_where_weights_of_four_bits_are_not_they_are_refused(dtype, backend, tmp_path):
    tiny("Llama").save_pretrained(tmp_path)
    with pytest.raises(SettingError, match="dtype int4 is"):
        load(tmp_path, backend=backend, device="cpu", dtype=dtype)
