"""Opens the files of a draft head for drafting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from outrider.drafters.heads.config import HeadConfig
from outrider.drafters.heads.layout import Weights, fill, read_weights, target_ids
from outrider.drafters.heads.module import Eagle3
from outrider.drafters.heads.names import EMBEDDING
from outrider.drafters.heads.network import Entries
from outrider.drafters.heads.states import HeadStates
from outrider.errors import ModelError
from outrider.maths.arrays import Array, HostFloats32, HostInts, to_numpy, top_of_logits
from outrider.runtimes.base import Embeds
from outrider.runtimes.torch.cuda.device import Device, device_at
from outrider.runtimes.torch.linears import activation_dtype
from outrider.runtimes.torch.placement import find_kind, weight_dtype


class TorchHead:
    """A HeadNetwork in PyTorch.

    Args:
        head: packed for drafting, or in the precision of a GPU.
        embedding: [vocabulary, hidden size].
        ids: int64 [draft vocabulary], the target's ids.
        device: a GPU, on which passes are replayed; None elsewhere.
    """

    def __init__(self, head: Eagle3, embedding: torch.Tensor, ids: torch.Tensor, device: Device | None = None) -> None:
        self._device = device
        self.ids = ids.cpu().numpy()
        self._ids = ids
        self.layers = head.config.layers
        self._head = head
        self._embedding = embedding
        self._like = head.norm.weight.detach()  # states are kept where and how the head computes
        self.bytes_per_entry = 2 * head.key_size * self._like.element_size()

    def open(self, rows: int, capacity: int) -> Entries:
        if self._device is not None:
            # Only a GPU needs it, and importing it takes seconds.
            from outrider.drafters.heads.graphed import GraphedStates

            return GraphedStates(self._head, self._embedding, self._ids, rows, capacity, self._device)
        return HeadStates(self._head, self._embedding, rows, capacity)

    def gathered(self, hidden: Sequence[Array]) -> Array:
        return torch.cat([tensor_of(layer).to(self._like.device, self._like.dtype) for layer in hidden], dim=-1)

    @torch.inference_mode()
    def read(self, hidden: Array) -> Array:
        return self._head.read(hidden)

    @torch.inference_mode()
    def passed_on(self, made: Array) -> Array:
        return self._head.passed_on(made)

    @torch.inference_mode()
    def logits(self, made: Array) -> Array:
        return self._head.logits(made).float()

    def likely(self, made: Array, count: int) -> tuple[HostInts, HostFloats32]:
        return top_of_logits(self.logits(made), count)


def open_head(
    folder: Path, config: HeadConfig, target: Embeds | None, vocab_size: int, dtype: str = "auto"
) -> TorchHead:
    """Read the weights and lay them out for the device on which the target's embedding lies.

    Args:
        target: whose embedding is used where the head has none of its own.
        vocab_size: of the target.
        dtype: the precision; auto is what is fast on the device.

    Raises:
        ModelError: weights are missing or do not fit.
    """
    weights = read_weights(folder)
    embedding = embedding_of(weights, config, target, str(folder))
    ids = target_ids(weights, config, str(folder))
    if int(ids.max()) >= vocab_size or len(embedding) < vocab_size:
        raise ModelError(f"head {folder} is for {config.vocab_size} tokens and the target has {vocab_size}: another's")
    head = Eagle3(config)
    fill(head, weights, str(folder))
    return laid_out(head, embedding, ids, dtype)


def laid_out(head: Eagle3, embedding: torch.Tensor, ids: torch.Tensor, dtype: str = "auto") -> TorchHead:
    """A head as it drafts fastest on the device of the embedding. It can no longer be trained or written."""
    device = embedding.device
    kind = find_kind(dtype, device)
    head.eval().requires_grad_(False)
    if device.type == "cpu":
        head.to(weight_dtype(kind, device)).pack(kind)
        head.to(activation_dtype(kind))
    else:
        head.to(device=device, dtype=weight_dtype(kind, device))
    return TorchHead(head, embedding, ids, device_at(device) if device.type == "cuda" else None)


def tensor_of(x: Array) -> torch.Tensor:
    """An array of any library as a tensor, where it lies."""
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.require(to_numpy(x), requirements="W"))


def embedding_of(weights: Weights, config: HeadConfig, target: Embeds | None, where: str) -> torch.Tensor:
    """The head's own embedding, on the device of the target's; or the target's.

    Raises:
        ModelError: there is none that fits.
    """
    own = weights.pop(EMBEDDING, None)
    if target is None:
        if own is None:
            raise ModelError(f"head {where} has no {EMBEDDING}, and the target's runtime shows none: use backend torch")
        return own
    shared = tensor_of(target.embedding())
    if own is not None:
        return own.to(shared.device)
    if shared.shape[1] != config.hidden_size:
        raise ModelError(
            f"head {where} has no {EMBEDDING}, and the target's embedding has {shared.shape[1]} numbers where it needs "
            f"{config.hidden_size}: it is of another target"
        )
    return shared
