"""Reads what a model folder says of itself, and holds it against the weights before anything is allocated."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from outrider.errors import ModelError, first_line
from outrider.runtimes.files.llama_weights import LlamaWeights, llama_weights

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Files of settings beside it; tokenizer.json is left to the tokenizers library.
BESIDE = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
SPECULATORS_TYPE = "speculators_model_type"
# Architectures of draft heads that do not name themselves as those of speculators do.
OLDER_HEADS = ("LlamaForCausalLMEagle3", "Eagle3LlamaForCausalLM")
DFLASH_BY_AUTHORS = "DFlashDraftModel"
DFLASH_HEADS = ("MuseGlimmerAssistantModel", DFLASH_BY_AUTHORS)
UNREAD_HEADS = {
    "DFlash2DraftModel": "DFlash 2",
    "Gemma4AssistantForCausalLM": "Gemma 4's assistant, which reads the target's key-value cache",
}
LONGEST_HEAD = 100_000_000  # bytes, of a safetensors file
LENGTH_BYTES = 8
# What counts must lie within where they are given; far above any model, and what fails at once below it.
LARGEST = {
    "vocab_size": 2**28,
    "hidden_size": 2**22,
    "intermediate_size": 2**26,
    "num_hidden_layers": 10_000,
    "num_attention_heads": 2**16,
    "num_key_value_heads": 2**16,
    "head_dim": 2**16,
    "max_position_embeddings": 2**30,
}
TYPES: dict[str, tuple[type, ...]] = {
    "model_type": (str,),
    "hidden_act": (str,),
    "rms_norm_eps": (int, float),
    "rope_theta": (int, float),
    "rope_parameters": (dict,),
    "rope_scaling": (dict,),
    "quantization_config": (dict,),
    "text_config": (dict,),
}
TYPE_NAMES = {str: "text", int: "a number", float: "a number", dict: "an object", list: "a list"}
LAYER = re.compile(r"model\.layers\.(\d+)\.")
QUANTISED = ("quantization_config", "quantization")
PLAIN_NUMBERS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor by what the head of its file says."""

    dtype: str
    shape: tuple[int, ...]


def check_folder(folder: Path) -> None:
    """Refuse a model folder that contradicts itself.

    Raises:
        ModelError: a file of settings is broken or holds a value of the wrong type, or the configuration and the
            weights say different things.
    """
    config = read_object(folder / CONFIG)
    _check_config(config, f"{CONFIG} of {folder}")
    for file in (folder / name for name in BESIDE):
        if file.is_file():
            settings, where = read_object(file), f"{file.name} of {folder}"
            _check_stop_tokens(settings, where)
            if not isinstance(settings.get("tokenizer_class", ""), str | None):
                raise ModelError(
                    f"{where} says tokenizer_class is {_shown(settings['tokenizer_class'])}: it must be text"
                )
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= read_head(file)
    if tensors:
        _check_layers(config, tensors, folder)
        _check_weights(config, tensors, folder)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: there is something else in it.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file.name} of {file.parent} cannot be read: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file.name} of {file.parent} cannot be read: it holds no object but {str(content)[:20]!r}")
    return content


def says_head(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is that of a draft head, of whatever kind."""
    named = architecture_of(config) in (*OLDER_HEADS, *DFLASH_HEADS, *UNREAD_HEADS)
    return named or SPECULATORS_TYPE in config or "draft_vocab_size" in config


def architecture_of(config: Mapping[str, Any]) -> str | None:
    """The class that a config.json names first; None where it names none."""
    named = config.get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, those that an index names or the one.

    Raises:
        ModelError: the index names a file outside the folder, or is no index.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not (folder / INDEX).is_file():
        return []
    named = read_object(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise ModelError(f"{INDEX} of {folder} has no weight_map from tensors to files: download it again")
    for name in named.values():
        # Both notations on every system: a folder is copied from one to another.
        if name in ("", ".", "..") or PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
            raise ModelError(f"{INDEX} of {folder} names {name[:80]!r}, which is not a file in the folder")
    return sorted({folder / name for name in named.values()})


def read_head(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        ModelError: it is damaged.
    """
    entries = head_of(file)
    entries.pop("__metadata__", None)
    tensors = {}
    for name, entry in entries.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not all(_is_count(size) for size in shape):
            raise ModelError(f"{file} is damaged: its head gives tensor {name[:80]!r} no shape")
        tensors[name] = Tensor(str(entry.get("dtype")), tuple(shape))
    return tensors


def head_of(file: Path) -> dict[str, Any]:
    """The head of a safetensors file as it stands there.

    Raises:
        ModelError: it is damaged.
    """
    if not file.exists():
        raise ModelError(f"{file} does not exist, and the index beside it names it: download it again")
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
            if length > min(LONGEST_HEAD, size - LENGTH_BYTES):
                raise ModelError(f"{file} is damaged: it has {size} bytes and says that its head has {length}")
            head = json.loads(stream.read(length))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file} is damaged: its head cannot be read ({first_line(error)})") from error
    if not isinstance(head, dict):
        raise ModelError(f"{file} is damaged: its head is no object")
    return head


def _check_config(config: Mapping[str, Any], where: str) -> None:
    for key, limit in LARGEST.items():
        _check_count(key, config.get(key), limit, where)
    for key, types in TYPES.items():
        value = config.get(key)
        if value is not None and (not isinstance(value, types) or isinstance(value, bool)):
            raise ModelError(f"{where} says {key} is {_shown(value)}: it must be {TYPE_NAMES[types[0]]}")
    for key in ("architectures", "layer_types"):
        value = config.get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
            raise ModelError(f"{where} says {key} is {_shown(value)}: it must be a list of names")
    _check_stop_tokens(config, where)
    if isinstance(config.get("text_config"), dict):
        _check_config(config["text_config"], f"text_config in {where}")


def _check_count(key: str, value: Any, limit: int, where: str) -> None:
    """Some models give one for each layer."""
    values = value if value and isinstance(value, list) else [value]
    for each in values:
        if each is not None and not (_is_count(each) and (each or isinstance(value, list)) and each <= limit):
            raise ModelError(f"{where} says {key} is {_shown(each)}: it must be a whole number from 1 to {limit}")


def _check_stop_tokens(settings: Mapping[str, Any], where: str) -> None:
    for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
        value = settings.get(key)
        ids = value if isinstance(value, list) else [value]
        if not all(each is None or (isinstance(each, int) and not isinstance(each, bool)) for each in ids):
            raise ModelError(f"{where} says {key} is {_shown(value)}: it must be a token id, or a list of them")


def _check_layers(config: Mapping[str, Any], tensors: Iterable[str], folder: Path) -> None:
    stated = config.get("num_hidden_layers")
    numbers = {int(found.group(1)) for name in tensors if (found := LAYER.match(name))}
    if not isinstance(stated, int) or not numbers:
        return
    both = f"{CONFIG} of {folder} says num_hidden_layers is {stated}"
    if stated > (there := max(numbers) + 1):
        raise ModelError(f"{both}, and the weights lack model.layers.{there}: one of them is of another model")
    # Layers that predict further tokens stand behind the others.
    further = config.get("num_nextn_predict_layers")
    if there > stated + (further if isinstance(further, int) else 0):
        raise ModelError(f"{both}, and the weights have {there} layers: one of them is of another model")


def _check_weights(config: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> None:
    expected = llama_weights(config)
    if expected is None:
        return
    for name, size in expected.sizes.items():
        found = tensors.get(name)
        if found is not None and found.dtype in PLAIN_NUMBERS and found.shape != tuple(size.values()):
            sizes = ", ".join(f"{key} is {number}" for key, number in size.items())
            raise ModelError(
                f"{CONFIG} of {folder} says {sizes}, and {name} is {list(found.shape)}: one of them is of another model"
            )
    # Quantised weights have other names, and those of a model without its head too.
    if not any(config.get(key) for key in QUANTISED) and any(name.startswith("model.") for name in tensors):
        _check_none_is_missing(expected, tensors, folder)


def _check_none_is_missing(expected: LlamaWeights, tensors: Mapping[str, Tensor], folder: Path) -> None:
    missing = [name for name in expected.sizes if name not in tensors and name not in expected.optional]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ModelError(f"the weights of {folder} lack {missing[0]}{others}: download them again")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _shown(value: Any) -> str:
    return repr(value)[:40]
