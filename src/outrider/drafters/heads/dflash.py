"""DFlash heads (arXiv 2602.06036): a block of draft tokens in one pass.

The head reads the target's states of some layers as context, and at the end of the text the newest token and a row of
mask tokens, which attend to one another. What it makes of each mask says what stands there; the draft's tokens are
independent of one another, given the text. transformers computes it (MuseGlimmerAssistant), in its own files and in
those of the authors, which name the same tensors otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from outrider.drafters.heads.layout import read_weights
from outrider.drafters.heads.rows import Row, RowNetwork
from outrider.errors import ModelError
from outrider.runtimes.files.folder import DFLASH_BY_AUTHORS, architecture_of
from outrider.runtimes.torch.model import TransformersModel

NAMES = {"fc.": "encoder.fc.", "hidden_norm.": "encoder.output_norm_enc."}  # of the authors, and transformers'
SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
)
COUNTS = (*SIZES, "block_size")
# Of the authors' files: what transformers' class does not compute.
NOT_COMPUTED = (
    "attention_bias",
    "use_sliding_window",
    "is_causal",
    "input_embedding_scale",
    "output_multiplier",
    "final_logit_softcapping",
    "quantization_config",
)


class DFlashHead(RowNetwork):
    """A DFlash head as a HeadNetwork.

    Args:
        model: transformers' MuseGlimmerAssistantModel.
        embedding: of the target, [vocabulary, hidden size], without any norm.
        output: the target's output head.
    """

    def __init__(
        self, model: Any, embedding: torch.Tensor, output: Callable[[torch.Tensor], torch.Tensor], vocab_size: int
    ) -> None:
        config = model.config
        # Numbered from 0 without the embedding there, and with it in `Features`.
        layers = tuple(layer + 1 for layer in config.target_layer_ids)
        super().__init__(layers, vocab_size, model.norm.weight.detach(), config.block_size - 1)
        self.model, self._output = model, output
        self.embedding = embedding

    @property
    def bytes_per_entry(self) -> int:
        config = self.model.config
        keys = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        return int(keys * self._like.element_size())

    def open_row(self) -> Row:
        return DFlashRow(self.model, self.embedding)

    def scores(self, made: torch.Tensor) -> torch.Tensor:
        return self._output(made)


class DFlashRow:
    """The context that a DFlash head has of one text, and the block at its end."""

    def __init__(self, model: Any, embedding: torch.Tensor) -> None:
        from transformers.cache_utils import DFlashCache

        self._model, self._embedding = model, embedding
        self._cache = DFlashCache(config=model.config)
        self._cache.activate_past_recording()
        self._length = 0
        self._block: torch.Tensor | None = None  # [block size - 1, hidden size]
        self._drafted = 0

    def append(self, states: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
        config, count = self._model.config, len(tokens)
        size, device = config.block_size, states.device
        ids = torch.tensor([tokens[-1], *[config.mask_token_id] * (size - 1)], device=device)
        noise = torch.nn.functional.embedding(ids.to(self._embedding.device), self._embedding)
        self._cache.set_previous_accepted_tokens(count)
        found: torch.Tensor = self._model(
            noise_embeds=noise[None].to(device, states.dtype),
            context_hidden_states=states[None],
            position_ids=torch.arange(self._length, self._length + count + size, device=device)[None],
            past_key_values=self._cache,
        ).last_hidden_state[0]
        self._cache.crop(-size)
        self._length += count
        self._block, self._drafted = found[1:], 0
        made = found.new_zeros((count, found.shape[-1]))
        made[-1] = self._block[0]
        return made

    def draft(self, state: torch.Tensor, token: int) -> torch.Tensor:
        assert self._block is not None, "a draft begins at the end of the text"
        self._drafted += 1
        return self._block[self._drafted : self._drafted + 1]

    def cut(self, length: int) -> None:
        self._drafted = 0
        if length < self._length:
            self._cache.crop(length - self._length)
            self._length = length


def open_dflash(folder: Path, config: Mapping[str, Any], target: Any) -> DFlashHead:
    """A DFlash head from its files, for a target that transformers computes.

    Raises:
        ModelError: it is of another target, or needs something that is not computed here.
    """
    if not isinstance(target, TransformersModel):
        raise ModelError(f"DFlash head {folder} is computed by transformers: open {target.name} with backend torch")
    settings = _settings(config, folder)
    from transformers import MuseGlimmerAssistantConfig, MuseGlimmerAssistantModel

    embedding, output = target.embedding(), target.module.get_output_embeddings()
    if settings["hidden_size"] != embedding.shape[1]:
        raise ModelError(
            f"DFlash head {folder} reads states of {settings['hidden_size']} numbers and those of {target.name} have "
            f"{embedding.shape[1]}: it is of another target"
        )
    last = max(settings["target_layer_ids"])
    if last >= target.traits.layers or settings["mask_token_id"] >= len(embedding):
        raise ModelError(
            f"DFlash head {folder} reads layer {last} and masks with token {settings['mask_token_id']}, and "
            f"{target.name} has {target.traits.layers} layers and {len(embedding)} tokens: it is of another target"
        )
    try:
        model = MuseGlimmerAssistantModel(MuseGlimmerAssistantConfig(**settings))
        weights = {_renamed(name): tensor for name, tensor in read_weights(folder).items()}
        model.load_state_dict(weights)
    except ModelError:
        raise
    except Exception as error:  # whatever transformers and PyTorch say of sizes that do not fit
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"DFlash head {folder} cannot be read: {reason}") from error
    model = model.to(embedding.device, embedding.dtype).eval().requires_grad_(False)
    return DFlashHead(model, embedding, output, target.traits.vocab_size)


def _settings(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Of transformers' class, from either kind of file."""
    own = {**config, **(config.get("dflash_config") or {})}
    strange = next((key for key in NOT_COMPUTED if own.get(key)), None)
    authors = architecture_of(config) == DFLASH_BY_AUTHORS
    if strange is None and authors and "sliding_attention" in (own.get("layer_types") or ()):
        strange = "a sliding_attention layer"
    if strange is not None:
        raise ModelError(f"DFlash head {folder} has {strange}, which is not computed here: choose another head")
    for key in COUNTS:
        if not isinstance(own.get(key), int) or own[key] < 1:
            raise ModelError(f"config.json of {folder} says {key} is {own.get(key)!r}: it must be above 0")
    layers = own.get("target_layer_ids")
    if not layers or not all(isinstance(layer, int) and layer >= 0 for layer in layers):
        raise ModelError(f"config.json of {folder} says target_layer_ids is {layers!r}: they must be layers")
    if own["block_size"] < 2 or not isinstance(own.get("mask_token_id"), int) or own["mask_token_id"] < 0:
        raise ModelError(
            f"config.json of {folder} says block_size is {own['block_size']} and mask_token_id "
            f"{own.get('mask_token_id')!r}: a block has at least 2 tokens, and a mask token"
        )
    rope = own.get("rope_parameters") or {"rope_theta": own.get("rope_theta"), **(own.get("rope_scaling") or {})}
    found = {key: own[key] for key in (*COUNTS, "mask_token_id", "rms_norm_eps") if key in own}
    kinds = list(own.get("layer_types") or ["full_attention"] * own["num_hidden_layers"])
    return {
        **found,
        "target_layer_ids": list(layers),
        "layer_types": kinds,
        "sliding_window": own.get("sliding_window") or own["max_position_embeddings"],
        "rope_parameters": {"rope_type": "default", **rope},
        "hidden_act": own.get("hidden_act", "silu"),
    }


def _renamed(name: str) -> str:
    return next((new + name[len(old) :] for old, new in NAMES.items() if name.startswith(old)), name)
