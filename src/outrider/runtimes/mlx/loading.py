"""Opening folders with mlx-lm."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_config, load_model, load_tokenizer

from outrider.errors import ModelError, OutriderError, SettingError, shown
from outrider.runtimes.base import stop_token_ids
from outrider.runtimes.files.refusals import reason
from outrider.runtimes.load_settings import LoadSettings
from outrider.runtimes.mlx.model import MlxModel
from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer


def load(asked: LoadSettings) -> MlxModel:
    """Open a folder that mlx-lm reads, of MLX or of transformers, in the precision of its weights.

    Raises:
        ModelError: the folder is damaged, or mlx-lm does not know the architecture.
        SettingError: a precision or a device is asked for, between which MLX gives no choice.
    """
    for name, value in (("dtype", asked.dtype), ("device", asked.device)):
        if value != "auto":
            raise SettingError(f"{name} is {shown(value)} and the backend is mlx, which has no choice: leave it out")
    place = asked.found()
    if not place.path.is_dir():
        raise ModelError(f"model file {place.path} is for llama.cpp or transformers: give mlx-lm a folder")
    folder = place.path
    asked.progress(f"opening {place.title}")
    try:
        module, config = load_model(
            folder, model_config=older_names(load_config(folder)), trust_remote_code=asked.trust_remote_code
        )
        tokenizer = _tokenizer(folder, config.get("eos_token_id"), asked.trust_remote_code)
        wrapped = None if tokenizer is None else HuggingFaceTokenizer(tokenizer)
        if wrapped is not None:
            wrapped.encode("")  # where settings of the wrong kind show
    except OutriderError:
        raise
    except Exception as error:  # whatever the libraries stumble over, the files are what is wrong
        raise ModelError(f"model {place.title} cannot be opened by mlx-lm: {reason(error)}") from error
    stop = stop_token_ids(getattr(tokenizer, "eos_token_ids", None), config.get("eos_token_id"))
    return MlxModel(module, tokenizer=wrapped, name=place.title, stop_token_ids=stop)


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


def _tokenizer(folder: Path, stop: Any, trust_remote_code: bool) -> Any:
    """The tokenizer beside the weights, as mlx-lm wraps it; None where there is none, for prompts of token ids."""
    if not any(True for pattern in ("*token*", "vocab*", "*.model", "*.tiktoken") for _ in folder.glob(pattern)):
        return None
    return load_tokenizer(folder, {"trust_remote_code": trust_remote_code}, eos_token_ids=stop)
