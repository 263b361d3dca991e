"""Every kind of model that Outrider runs, as small as it may be, for the tests of their sessions.

A runtime is tested by a line in MODELS. tests/runtimes/test_sessions.py says what every session must do.
"""

import functools
import importlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from outrider import FunctionModel, TableModel
from outrider.maths.arrays import to_numpy
from tiny import gguf as tiny_gguf
from tiny import mlx as tiny_mlx
from tiny import native as tiny_native

VOCABULARY = 48
GRAPHED_ON = "cpu"  # benchmarks/gpu runs the tests with "cuda"


@dataclass(frozen=True)
class Truth:
    """What other code than ours computes of a text.

    Attributes:
        logits: [tokens, vocab].
        hidden: [tokens, hidden size] of the embedding and of each layer; empty where it does not show them.
    """

    logits: Any
    hidden: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Subject:
    """A model whose sessions are tested.

    Attributes:
        make: makes it; may skip the test where its library is not installed.
        truth: what it computes of the token ids of a text, by other code; None where there is none, or where the model
            rounds by itself.
    """

    make: Callable[[], Any]
    truth: Callable[[list[int]], Truth] | None = None


def table():
    return TableModel.random(6, 2)


def function():
    inner = TableModel.random(6, 2)
    return FunctionModel(
        lambda ids: np.stack([inner.logits_after(ids[0, : i + 1].tolist()) for i in range(ids.shape[1])])
    )


def function_of_the_last_token():
    inner = TableModel.random(6, 2)
    return FunctionModel(lambda ids: inner.logits_after(ids[0].tolist()))


def tiny(kind, seed=0, **settings):
    """A randomly initialised transformers model of a few thousand parameters."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.4,
    }
    config = getattr(transformers, kind + "Config")(**sizes | settings)
    name = {"Gemma3Text": "Gemma3"}.get(kind, kind) + "ForCausalLM"
    return getattr(transformers, name)(config).eval()


def of_transformers(kind, **settings):
    """What transformers computes."""

    @functools.cache
    def made():
        return tiny(kind, **settings)

    def truth(tokens):
        import torch

        with torch.inference_mode():
            output = made()(torch.tensor([tokens]), output_hidden_states=True)
        hidden = output.hidden_states if "hidden_states" in output and output.hidden_states else ()
        return Truth(to_numpy(output.logits[0]), tuple(to_numpy(layer[0]).astype(np.float64) for layer in hidden))

    return truth


def wrapped(kind, **settings):
    def make():
        model = tiny(kind, **settings)
        from outrider.runtimes.torch.model import TransformersModel

        return TransformersModel(model)

    return Subject(make, of_transformers(kind, **settings))


def fused(kind, dtype="float32", **settings):
    def make():
        model = tiny(kind, **settings)
        from outrider.runtimes.torch.fused_llama import can_take_over, take_over
        from outrider.runtimes.torch.model import TransformersModel

        if dtype == "bfloat16":  # it is read in that precision
            model = model.bfloat16()
        assert can_take_over(model)
        return TransformersModel(model, fused=take_over(model, dtype))

    return Subject(make, of_transformers(kind, **settings) if dtype == "float32" else None)


def graphed(kind, dtype="float32", **settings):
    """A session as on a GPU, with the CPU in its place."""

    def make():
        torch = pytest.importorskip("torch")
        from outrider.runtimes.torch.cuda.model import GraphedLlama, can_take_over

        model = tiny(kind, **settings)
        assert can_take_over(model)
        return GraphedLlama.of(model, dtype=getattr(torch, dtype), device=GRAPHED_ON)

    return Subject(make, of_transformers(kind, **settings) if dtype == "float32" else None)


def native(kind, dtype="float32", **settings):
    @functools.cache
    def make():
        tiny_native.library()
        return tiny_native.of_transformers(tiny(kind, **settings), dtype)

    return Subject(make, of_transformers(kind, **settings) if dtype == "float32" else None)


def of_mlx(kind, **settings):
    @functools.cache
    def make():
        pytest.importorskip("mlx_lm")
        from outrider.runtimes.mlx.model import MlxModel

        return MlxModel(tiny_mlx.model(kind, **settings))

    def truth(tokens):
        import mlx.core as mx

        return Truth(to_numpy(tiny_mlx.model(kind, **settings)(mx.array([tokens]))[0]))

    return Subject(make, truth)


def of_the_course(kind):
    @functools.cache
    def make():
        pytest.importorskip("mlx.core")
        from outrider.runtimes.mlx.course import CourseModel

        return CourseModel(getattr(tiny_mlx, kind)())

    return Subject(make)


def llamacpp(architecture, cache_type="float32"):
    """A randomly initialised GGUF file in llama.cpp."""

    def make():
        pytest.importorskip("llama_cpp")
        pytest.importorskip("gguf")
        from outrider.runtimes.llamacpp.context import Settings
        from outrider.runtimes.llamacpp.loading import open_file
        from outrider.runtimes.llamacpp.model import LlamaCppModel

        with tempfile.TemporaryDirectory() as folder:
            file = tiny_gguf.save(Path(folder) / "tiny.gguf", architecture, vocabulary=VOCABULARY)
            return LlamaCppModel(open_file(file), architecture, Settings(threads=1, cache_type=cache_type))

    return Subject(make)


SLIDING = {"sliding_window": 5}
MAMBA = {"num_hidden_layers": 2, "state_size": 4, "conv_kernel": 3, "time_step_rank": 4}
JAMBA = {**tiny_mlx.KINDS["jamba"], "use_mamba_kernels": False}
QWEN3_NEXT = {
    "num_hidden_layers": 2,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 3,
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
GEMMA = {"sliding_window": 5, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
MODELS = {
    "table": Subject(table),
    "function": Subject(function),
    "function-of-last": Subject(function_of_the_last_token),
    "llama": wrapped("Llama"),
    "qwen3": wrapped("Qwen3"),
    "mistral-sliding": wrapped("Mistral", **SLIDING),
    "gemma3-sliding": wrapped("Gemma3Text", **GEMMA),
    "gpt-neox": wrapped("GPTNeoX"),
    "fused-llama": fused("Llama"),
    "fused-llama-int8": fused("Llama", "int8"),
    "fused-llama-bias": fused("Llama", attention_bias=True, mlp_bias=False),
    "fused-qwen2": fused("Qwen2"),
    "fused-qwen3": fused("Qwen3"),
    "fused-mistral": fused("Mistral", sliding_window=None),
    "graphed-llama": graphed("Llama"),
    "graphed-llama-bias": graphed("Llama", attention_bias=True, mlp_bias=False, tie_word_embeddings=True),
    "graphed-qwen2": graphed("Qwen2"),
    "graphed-qwen3": graphed("Qwen3"),
    "graphed-mistral": graphed("Mistral", sliding_window=5),
    "native-llama": native("Llama"),
    "native-llama-q8_0": native("Llama", "q8_0", attention_bias=True),
    "native-qwen2": native("Qwen2"),
    "native-qwen3": native("Qwen3", tie_word_embeddings=True),
    "native-mistral-sliding": native("Mistral", **SLIDING),
    "native-mixtral": native("Mixtral", num_local_experts=5, num_experts_per_tok=2),
    "native-gemma2-capped": native("Gemma2", sliding_window=5),
    "native-olmo3": native("Olmo3", **GEMMA),
    "native-phi3-sliding": native("Phi3", pad_token_id=0, **SLIDING),
    "native-gemma3-sliding": native("Gemma3Text", **GEMMA),
    "gemma2-capped": wrapped("Gemma2", sliding_window=5),
    "torch-mamba": wrapped("Mamba", **MAMBA),
    "torch-jamba": wrapped("Jamba", **JAMBA),
    "torch-qwen3-next": wrapped("Qwen3Next", **QWEN3_NEXT),
    "mlx-llama": of_mlx("llama"),
    "mlx-qwen3": of_mlx("qwen3"),
    "mlx-gemma3-sliding": of_mlx("gemma3_text"),
    "mlx-mamba": of_mlx("mamba"),
    "mlx-jamba": of_mlx("jamba"),
    "mlx-recurrent-gemma": of_mlx("recurrent_gemma"),
    "course": of_the_course("CourseModel"),
    "course-with-cache": of_the_course("CourseModelWithCache"),
    "llamacpp-llama": llamacpp("llama"),
    "llamacpp-qwen3": llamacpp("qwen3"),
    "llamacpp-gemma3-sliding": llamacpp("gemma3"),
    "llamacpp-mamba": llamacpp("mamba"),
}


@functools.cache
def made(name):
    """The same for all tests: a model keeps nothing, its sessions do."""
    return MODELS[name].make()


def subject_at(place):
    """The subject, or the function that makes a model, at "module:name"; for runtimes outside of this repository."""
    module, _, name = place.partition(":")
    found = getattr(importlib.import_module(module), name)
    return found if isinstance(found, Subject) else Subject(found)
