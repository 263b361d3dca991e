"""Opening models with transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from outrider.errors import ModelError, SettingError
from outrider.runtimes.base import Model
from outrider.runtimes.files.places import Place, find_place
from outrider.runtimes.files.refusals import opening, unreadable_tokenizer
from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer
from outrider.runtimes.torch.cuda import model as graphed
from outrider.runtimes.torch.fused_llama import can_take_over, take_over
from outrider.runtimes.torch.model import TransformersModel
from outrider.runtimes.torch.offloading import Offloading, read_ahead
from outrider.runtimes.torch.placement import find_device, find_kind, weight_dtype
from outrider.runtimes.torch.quantised import KINDS, build_of, quantise


def load(place: Place, *, dtype: str, device: str, trust_remote_code: bool, progress: Callable[[str], None]) -> Model:
    """See outrider.load."""
    on = find_device(device)
    kind = find_kind(dtype, on)
    model, tokenizer = _open(place, kind, on, trust_remote_code, progress)
    if on.type == "cuda" and graphed.can_take_over(model):
        progress(f"preparing {place.title} in {kind} on {on}")
        return graphed.GraphedLlama.of(model, device=on, tokenizer=tokenizer, name=place.title, build=build_of(kind))
    model = model.to(on)
    if on.type == "cuda" and kind in KINDS:
        quantise(model, kind)
    fused = None
    if can_take_over(model):
        progress(f"preparing {place.title} in {kind}")
        fused = take_over(model, kind)
    if fused is None and on.type == "cpu" and dtype in ("int8", "float16"):
        raise SettingError(
            f"dtype {dtype} is not available for {model.config.model_type} models on a CPU: use float32 or bfloat16"
        )
    return TransformersModel(model, tokenizer=tokenizer, name=place.title, fused=fused)


def load_offloaded(
    place: Place,
    offloading: Offloading,
    *,
    dtype: str,
    device: str,
    trust_remote_code: bool,
    progress: Callable[[str], None],
) -> Model:
    """See outrider.load: with weights beyond a limit of memory.

    Raises:
        SettingError: a precision that transformers does not compute in.
        ModelError: as `load`, or the limit leaves no room for a single layer.
    """
    on = find_device(device)
    kind = _kind_of_transformers(dtype, on, "an offloaded model")
    model, tokenizer = _open(place, kind, on, trust_remote_code, progress, **offloading.placed(on))
    read_ahead(model, sorted([*place.path.glob("*.safetensors"), *offloading.folder.glob("*.dat")]))
    return TransformersModel(model, tokenizer=tokenizer, name=place.title)


def open_part(
    place: Place, split: Any, dtype: str, device: str, trust_remote_code: bool, progress: Callable[[str], None]
) -> TransformersModel:
    """This rank's part of a model that is divided among processes, which all call this.

    Args:
        split: transformers' DistributedConfig.

    Raises:
        SettingError: a precision that transformers does not compute in.
        ModelError: it cannot be opened, or not be divided so.
    """
    on = find_device(device)
    kind = _kind_of_transformers(dtype, on, "a divided model")
    model, tokenizer = _open(place, kind, on, trust_remote_code, progress, distributed_config=split)
    return TransformersModel(model.eval(), tokenizer=tokenizer, name=place.title)


def _kind_of_transformers(dtype: str, on: torch.device, what: str) -> str:
    """The precision where transformers' own code computes.

    Raises:
        SettingError: it does not compute in this one.
    """
    kind = find_kind(dtype, on)
    if kind not in (KINDS if on.type != "cpu" else ("int8", "float16")):
        return kind
    if dtype != "auto":
        raise SettingError(f"dtype {dtype} is not available for {what} on {on}: use float32 or bfloat16")
    return "float32"


def open_reference(name: str, dtype: str, device: str = "auto") -> Any:
    """The model as transformers itself opens and runs it, on the device that `load` would choose."""
    on = find_device(device)
    place = find_place(name, _silent)
    model, _ = _open(place, find_kind(dtype, on), on, False, _silent)
    # A file beside the weights may recommend penalties and banned tokens, which would make another text.
    model.generation_config = GenerationConfig()
    return model.to(on).eval()


def _silent(message: str) -> None:
    pass


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


def _open(
    place: Place,
    kind: str,
    device: torch.device,
    trust_remote_code: bool,
    progress: Callable[[str], None],
    **placed: Any,
) -> tuple[Any, HuggingFaceTokenizer | None]:
    """(model, tokenizer), on the CPU, or where `placed` puts the weights, in transformers' own arguments."""
    progress(f"opening {place.title}")
    transformers_logging.disable_progress_bar()
    # None, which is transformers' default, would ask on standard output whether to run the code.
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    folder = place.path
    if not folder.is_dir():
        folder, arguments["gguf_file"] = folder.parent, folder.name
    with opening(place.title):
        model, loading = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=weight_dtype(kind, device), output_loading_info=True, **arguments, **placed
        )
        tokenizer = _tokenizer(folder, arguments)
    # transformers draws at random what the files lack, and goes on.
    if missing := sorted(loading["missing_keys"]):
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ModelError(f"the weights of {place.title} lack {missing[0]}{others}: download them again")
    return model, tokenizer


def _tokenizer(folder: Path, arguments: dict[str, Any]) -> HuggingFaceTokenizer | None:
    """The tokenizer beside the weights; None where there is none, for prompts of token ids."""
    # Where there are no files, transformers makes an empty tokenizer for some models.
    if "gguf_file" not in arguments and not _has_tokenizer(folder):
        return None
    try:
        found = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(str(folder), **arguments))
        found.encode("")  # where settings of the wrong kind show
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(unreadable_tokenizer(folder, error)) from error


def _has_tokenizer(folder: Path) -> bool:
    return any(True for pattern in ("*token*", "vocab*", "*.model") for _ in folder.glob(pattern))
