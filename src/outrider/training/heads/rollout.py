"""Several steps of a head over whole texts at once, each step on the states that the one before made.

EAGLE-3's training-time test (arXiv 2503.01840, section 3.2): a draft that begins after position t reads the target's
states up to t, and its own after it. So the query of step d at t sees the keys of step 0 up to t, and of the steps
1 to d those at t alone. The tokens are those of the text: what is learned is what to draft after accepted tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from outrider.drafters.heads.module import Eagle3
from outrider.drafters.heads.states import Rotation, turned
from outrider.training.heads.batch import Batch, Step


@dataclass(frozen=True, slots=True)
class HeadStudent:
    """A head that learns.

    Attributes:
        embedding: of the tokens, [vocabulary, hidden size]; it is not trained.
    """

    module: Eagle3
    embedding: torch.Tensor

    def steps(self, batch: Batch, depth: int) -> Iterator[Step]:
        return rollout(self.module, self.embedding, batch, depth)


def rollout(head: Eagle3, embedding: torch.Tensor, batch: Batch, depth: int) -> Iterator[Step]:
    """The steps of drafts that begin at every position.

    Args:
        embedding: of the tokens, [vocabulary, hidden size]; it is not trained.
        depth: how many steps.
    """
    attention = _Attention(head)
    width = batch.tokens.shape[1]
    state = head.read(batch.hidden.to(head.fc.weight.dtype))
    for step in range(min(depth, width - 1)):
        # Drafts that begin at t < width - 1 - step: their next token is known.
        begins = width - 1 - step
        state = state[:, :begins]
        embedded = functional.embedding(batch.tokens[:, step + 1 :], embedding).to(state.dtype)
        made = head(state, embedded, attention.at(step))
        counts = batch.counts[:, step + 1 :]
        if bool(counts.any()):
            yield Step(
                head.logits(made[counts]),
                batch.likely[:, step + 1 :][counts].long(),
                batch.chances[:, step + 1 :][counts].float(),
                batch.best[:, step + 1 :][counts].long(),
            )
        state = head.passed_on(made)


class _Attention:
    """Keeps the keys and values of all steps so far."""

    def __init__(self, head: Eagle3) -> None:
        self._rotation = Rotation(head)
        self._groups = head.config.heads // head.config.key_heads
        self._held: list[tuple[torch.Tensor, torch.Tensor]] = []

    def at(self, step: int) -> _AttentionAt:
        return _AttentionAt(self, step)

    def attend(self, step: int, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """[texts, begins, heads * head size]; arguments [texts, begins, heads, head size]."""
        begins = queries.shape[1]
        positions = torch.arange(step, step + begins, device=queries.device)
        cos, sin = self._rotation(positions[None], queries)
        queries, keys = turned(queries, cos, sin).transpose(1, 2), turned(keys, cos, sin)
        keys, values = (x.repeat_interleave(self._groups, dim=2).transpose(1, 2) for x in (keys, values))
        self._held.append((keys, values))
        if step == 0:
            found = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            return found.transpose(1, 2).flatten(2)
        scale = queries.shape[-1] ** -0.5
        first_keys, first_values = (x[:, :, :begins] for x in self._held[0])
        seen = torch.ones(begins, begins, dtype=torch.bool, device=queries.device).tril()
        scores = [(queries @ first_keys.transpose(2, 3) * scale).masked_fill(~seen, float("-inf"))]
        own = [(own_keys[:, :, :begins], own_values[:, :, :begins]) for own_keys, own_values in self._held[1:]]
        scores += [(queries * own_keys).sum(-1, keepdim=True) * scale for own_keys, _ in own]
        weights = torch.cat(scores, dim=-1).float().softmax(dim=-1).to(queries.dtype)
        found = weights[..., :begins] @ first_values
        for number, (_, own_values) in enumerate(own):
            found = found + weights[..., begins + number, None] * own_values
        return found.transpose(1, 2).flatten(2)


class _AttentionAt:
    def __init__(self, attention: _Attention, step: int) -> None:
        self._attention, self._step = attention, step

    def __call__(self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return self._attention.attend(self._step, queries, keys, values)
