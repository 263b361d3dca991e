"""Opens the files of a draft head for drafting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from outrider.drafters.heads.config import HeadConfig
from outrider.drafters.heads.drafter import HeadDrafter
from outrider.drafters.heads.layout import EMBEDDING, Weights, fill, read_weights, target_ids
from outrider.drafters.heads.module import Eagle3
from outrider.drafters.tree_shapes import TreeShape
from outrider.errors import ModelError
from outrider.maths.arrays import Array, to_numpy
from outrider.runtimes.base import Embeds
from outrider.runtimes.torch.linears import activation_dtype
from outrider.runtimes.torch.placement import find_kind, weight_dtype


@dataclass(frozen=True, slots=True)
class OpenedHead:
    """A head that can draft.

    Attributes:
        embedding: [vocabulary, hidden size].
        ids: int64 [draft vocabulary], the target's ids.
    """

    head: Eagle3
    embedding: torch.Tensor
    ids: torch.Tensor

    def drafter(self, *, shape: TreeShape | None, trees: bool, greedy: bool, name: str) -> HeadDrafter:
        return HeadDrafter(self.head, self.embedding, self.ids, shape=shape, trees=trees, greedy=greedy, name=name)


def open_head(
    folder: Path, config: HeadConfig, target: Embeds | None, vocab_size: int, dtype: str = "auto"
) -> OpenedHead:
    """Read the weights and lay them out for the device on which the target's embedding lies.

    Args:
        target: whose embedding is used where the head has none of its own.
        vocab_size: of the target.
        dtype: the precision; auto is what is fast on the device.

    Raises:
        ModelError: weights are missing or do not fit.
    """
    weights = read_weights(folder)
    embedding = _embedding(weights, config, target, str(folder))
    ids = target_ids(weights, config, str(folder))
    if int(ids.max()) >= vocab_size or len(embedding) < vocab_size:
        raise ModelError(f"head {folder} is for {config.vocab_size} tokens and the target has {vocab_size}: another's")
    head = Eagle3(config)
    fill(head, weights, str(folder))
    return laid_out(head, embedding, ids, dtype)


def laid_out(head: Eagle3, embedding: torch.Tensor, ids: torch.Tensor, dtype: str = "auto") -> OpenedHead:
    """A head as it drafts fastest on the device of the embedding. It can no longer be trained or written."""
    device = embedding.device
    kind = find_kind(dtype, device)
    head.eval().requires_grad_(False)
    if device.type == "cpu":
        head.to(weight_dtype(kind, device)).pack(kind)
        head.to(activation_dtype(kind))
    else:
        head.to(device=device, dtype=weight_dtype(kind, device))
    return OpenedHead(head, embedding, ids.to(device))


def tensor_of(x: Array) -> torch.Tensor:
    """An array of any library as a tensor, where it lies."""
    return x if isinstance(x, torch.Tensor) else torch.from_numpy(np.require(to_numpy(x), requirements="W"))


def _embedding(weights: Weights, config: HeadConfig, target: Embeds | None, where: str) -> torch.Tensor:
    """The head's own embedding, on the device of the target's; or the target's."""
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
