"""Opening folders with mlx-lm."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_config, load_model, load_tokenizer

from outrider.errors import ModelError
from outrider.runtimes.base import stop_token_ids
from outrider.runtimes.hub import fetch
from outrider.runtimes.huggingface_tokenizer import HuggingFaceTokenizer
from outrider.runtimes.mlx.model import MlxModel
from outrider.runtimes.refusals import reason
from outrider.runtimes.smollm2 import SMOLLM2, converted_folder, is_converted


def load(name: str, *, trust_remote_code: bool, progress: Callable[[str], None]) -> MlxModel:
    """Open a folder that mlx-lm reads, in the precision of its weights.

    Args:
        name: an MLX folder, a transformers folder, a Hugging Face name, or "smollm2".
        progress: called with a few words about each step.

    Raises:
        ModelError: there is no such model, or mlx-lm does not know its architecture.
    """
    folder, title = _locate(name, progress)
    progress(f"opening {title}")
    try:
        module, config = load_model(
            folder, model_config=older_names(load_config(folder)), trust_remote_code=trust_remote_code
        )
        tokenizer = _tokenizer(folder, config.get("eos_token_id"), trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"model {name} cannot be opened by mlx-lm: {reason(error)}") from error
    stop = stop_token_ids(getattr(tokenizer, "eos_token_ids", None), config.get("eos_token_id"))
    wrapped = None if tokenizer is None else HuggingFaceTokenizer(tokenizer)
    return MlxModel(module, tokenizer=wrapped, name=title, stop_token_ids=stop)


def greedy_generate(model: MlxModel) -> Callable[[Sequence[int], int], list[int]]:
    """mlx-lm's own greedy decoding: a function from a prompt and max_tokens to the new tokens."""

    def decode(prompt: Sequence[int], max_tokens: int) -> list[int]:
        tokens: list[int] = []
        for token, _ in generate_step(mx.array(list(prompt)), model.module, max_tokens=max_tokens):
            tokens.append(int(token))
            if tokens[-1] in model.traits.stop_token_ids:
                break
        return tokens

    return decode


def older_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that transformers 5 writes in a new place, under the names that mlx-lm's models read.

    Most of these models silently ignore `rope_parameters` and use their own default.
    """
    names: dict[str, Any] = {}
    rope = config.get("rope_parameters") or {}
    everywhere = rope.get("full_attention", rope)  # one dictionary, or one per type of layer
    if "rope_theta" in everywhere:
        names["rope_theta"] = names["rotary_emb_base"] = everywhere["rope_theta"]
    if "partial_rotary_factor" in everywhere:
        names["partial_rotary_factor"] = names["rotary_pct"] = everywhere["partial_rotary_factor"]
    if everywhere.get("rope_type", "default") != "default":
        names["rope_scaling"] = everywhere
    if "rope_theta" in rope.get("sliding_attention", {}):
        names["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    if "_sliding_window_pattern" in config:
        names["sliding_window_pattern"] = config["_sliding_window_pattern"]
    if "text_config" in config:
        names["text_config"] = config["text_config"] | older_names(config["text_config"])
        return names
    return {name: value for name, value in names.items() if config.get(name) is None}


def _locate(name: str, progress: Callable[[str], None]) -> tuple[Path, str]:
    """(folder, title)."""
    if name == SMOLLM2:
        return _smollm2_folder(progress), SMOLLM2
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        raise ModelError(f"model file {name} is for llama.cpp or transformers: give mlx-lm a folder")
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(f"folder {name} has no config.json: give an MLX or a transformers model folder")
        return path, path.name
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError(f"model folder {name} does not exist: check the path")
    return fetch(name), name


def _smollm2_folder(progress: Callable[[str], None]) -> Path:
    if is_converted():
        return converted_folder()
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        raise ModelError("model smollm2 is converted by PyTorch, once: pip install 'outrider[torch]'")
    from outrider.runtimes.torch import loading as transformers_loading

    return transformers_loading.smollm2_folder(progress)


def _tokenizer(folder: Path, stop: Any, trust_remote_code: bool) -> Any:
    """The tokenizer beside the weights, as mlx-lm wraps it; None where there is none, for prompts of token ids."""
    if not any(True for pattern in ("*token*", "vocab*", "*.model", "*.tiktoken") for _ in folder.glob(pattern)):
        return None
    return load_tokenizer(folder, {"trust_remote_code": trust_remote_code}, eos_token_ids=stop)
