"""Opens folders of Llama-like models on a CPU without building the model in transformers: in half the time.

It opens only what config.json describes in full, and leaves everything else to loading.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from outrider.errors import ModelError
from outrider.runtimes.base import Named, Traits, stop_token_ids
from outrider.runtimes.files.folder import architecture_of, read_object, weight_files
from outrider.runtimes.files.llama_weights import REQUIRED, llama_weights
from outrider.runtimes.files.places import Place
from outrider.runtimes.files.refusals import opening, unreadable_tokenizer
from outrider.runtimes.tokenizers.huggingface import HuggingFaceTokenizer
from outrider.runtimes.torch.fused_llama import FusedLlama
from outrider.runtimes.torch.llama_layers import Shape
from outrider.runtimes.torch.placement import find_device, find_kind, free_bytes, weight_dtype
from outrider.runtimes.torch.session import TorchSession
from outrider.text import Tokenizer

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
# Tokenizers that tokenizer.json describes in full, without code of their own.
PLAIN_TOKENIZERS = {"TokenizersBackend", "PreTrainedTokenizerFast"}


class LlamaModel(Named):
    """A Llama-like model on the CPU behind the Model protocol."""

    def __init__(
        self,
        forward: FusedLlama,
        config: Mapping[str, Any],
        stop: frozenset[int],
        tokenizer: Tokenizer | None,
        name: str,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.device = torch.device("cpu")
        self.traits = Traits(
            int(config["vocab_size"]),
            int(config["max_position_embeddings"]),
            stop,
            hidden_size=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            bytes_per_token=forward.bytes_per_token,
        )
        self._forward = forward

    def free_bytes(self) -> int | None:
        return free_bytes(self.device)

    def embedding(self) -> torch.Tensor:
        return self._forward.embedding

    def open(self, rows: int, capacity: int) -> TorchSession:
        return TorchSession(self._forward, rows, capacity, self.name, self.traits)


def open_known(
    place: Place, *, dtype: str, device: str, trust_remote_code: bool, progress: Callable[[str], None]
) -> LlamaModel | None:
    """Open a folder of a Llama-like model on the CPU.

    Returns:
        None where transformers has to open it.

    Raises:
        ModelError: the folder's files are damaged.
        SettingError: as outrider.load.
    """
    on = find_device(device)
    kind = find_kind(dtype, on)
    folder = place.path
    if on.type != "cpu" or not folder.is_dir():
        return None
    files = weight_files(folder)
    with opening(place.title):
        config = read_object(folder / "config.json")
        theta, known = _rotary_base(config), llama_weights(config)
        if not files or theta is None or known is None:
            return None
        progress(f"opening {place.title} in {kind}")
        # Others, as biases that config.json does not mention, transformers leaves out.
        weights = {key: tensor for file in files for key, tensor in load_file(file).items() if key in known.sizes}
        with ThreadPoolExecutor(1) as pool:
            # Laying weights out releases Python's lock (GIL): the tokenizer is read meanwhile.
            building = pool.submit(_build, config, weights, theta, kind)
            tokenizer = _tokenizer(folder, trust_remote_code)
            forward = building.result()
        generation = folder / "generation_config.json"
        stop = stop_token_ids(
            read_object(generation).get("eos_token_id") if generation.exists() else None, config.get("eos_token_id")
        )
    return LlamaModel(forward, config, stop, tokenizer, place.title)


def _build(config: Mapping[str, Any], weights: dict[str, torch.Tensor], theta: float, kind: str) -> FusedLlama:
    head_size = _head_size(config)
    shape = Shape(
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        key_heads=int(config["num_key_value_heads"]),
        head_size=head_size,
        epsilon=float(config["rms_norm_eps"]),
    )
    return FusedLlama(shape, weights, Rotary(theta, head_size), kind, weight_dtype(kind, torch.device("cpu")))


class Rotary:
    """Rotary position embedding of the default kind (arXiv 2104.09864, section 3.4.2)."""

    def __init__(self, base: float, head_size: int) -> None:
        self._frequencies = 1.0 / (base ** (torch.arange(0, head_size, 2, dtype=torch.int64).float() / head_size))

    def __call__(self, x: torch.Tensor, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [1, tokens, head size] of positions [1, tokens], in the precision of `x`."""
        angles = positions[..., None].float() * self._frequencies
        both = torch.cat((angles, angles), dim=-1)
        return both.cos().to(x.dtype), both.sin().to(x.dtype)


def _rotary_base(config: Mapping[str, Any]) -> float | None:
    """The base of the rotary frequencies; None unless FusedLlama certainly computes this model."""
    kind = ARCHITECTURES.get(architecture_of(config) or "")
    if kind is None or config.get("model_type") != kind or any(config.get(key) is None for key in REQUIRED):
        return None
    if config.get("hidden_act") != "silu" or config.get("quantization_config") or config.get("auto_map"):
        return None
    if "sliding_attention" in (config.get("layer_types") or ()):
        return None
    if kind == "mistral" and config.get("sliding_window", 0) is not None:
        return None
    if kind in ("qwen2", "qwen3") and config.get("use_sliding_window", False):
        return None
    if kind in ("mistral", "qwen3") and config.get("head_dim") is None:
        return None
    if config.get("is_causal", True) is not True:
        return None
    parameters = config.get("rope_scaling") or config.get("rope_parameters") or {}  # as transformers takes one of them
    if parameters.get("rope_type", parameters.get("type", "default")) != "default":
        return None
    if parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        return None
    base = parameters.get("rope_theta", config.get("rope_theta"))
    return None if base is None else float(base)


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _tokenizer(folder: Path, trust_remote_code: bool) -> HuggingFaceTokenizer | None:
    """The tokenizer beside the weights; None where there is none, for prompts of token ids."""
    settings = folder / "tokenizer_config.json"
    if not settings.exists() and not (folder / "tokenizer.json").exists():
        return None
    try:
        plain = settings.exists() and read_object(settings).get("tokenizer_class") in PLAIN_TOKENIZERS
        if plain and (folder / "tokenizer.json").exists():
            from transformers import PreTrainedTokenizerFast

            found = HuggingFaceTokenizer(PreTrainedTokenizerFast.from_pretrained(folder))
        else:
            from transformers import AutoTokenizer

            found = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code))
        found.encode("")  # where settings of the wrong kind show
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(unreadable_tokenizer(folder, error)) from error
