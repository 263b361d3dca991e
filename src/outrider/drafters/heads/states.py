"""The KV cache of a draft head, with rows of their own lengths, and the forward pass over it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outrider.drafters.heads.entries import LedgerEntries
from outrider.drafters.heads.module import Eagle3
from outrider.runtimes.base import Parents
from outrider.runtimes.torch.ragged_cache import RaggedCache, TorchPlan


class Rotation:
    """Turns queries and keys by their positions (arXiv 2104.09864, section 3.4.2).

    Args:
        device: of the positions, where it is known: nothing is copied then while they are turned.
    """

    def __init__(self, head: Eagle3, device: torch.device | None = None) -> None:
        rotary = head.config.rotary
        self._frequencies = torch.from_numpy(rotary.frequencies).to(device)
        self._scale = rotary.scale

    def __call__(self, positions: torch.Tensor, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [.., 1, head size] of positions [..], for all heads, in the precision of `like`."""
        angles = positions[..., None].float() * self._frequencies.to(positions.device)
        both = torch.cat((angles, angles), dim=-1)[..., None, :]
        return (both.cos() * self._scale).to(like.dtype), (both.sin() * self._scale).to(like.dtype)


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """(a, b) -> (a cos - b sin, b cos + a sin), for the halves a and b of each head."""
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class HeadStates(LedgerEntries):
    """What a head has read of several texts, one in each row.

    An entry is a position of the text: the state at it, and the token after it. Entries of the target's states are
    kept; those of the head's own are tentative, and dropped before the next draft.

    Args:
        embedding: [vocabulary, hidden size].
        rows, capacity: how many texts, and entries of each.
    """

    def __init__(self, head: Eagle3, embedding: torch.Tensor, rows: int, capacity: int) -> None:
        super().__init__(rows, capacity)
        self.head = head
        self._embedding = embedding
        self._rotation = Rotation(head, embedding.device)
        self._cache = RaggedCache(rows, capacity)

    def release(self, row: int) -> None:
        self._cache.clear(row)
        super().release(row)

    @torch.inference_mode()
    def extend(
        self,
        rows: Sequence[int],
        states: torch.Tensor,
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
    ) -> torch.Tensor:
        """Append entries tentatively.

        Args:
            states: [entries of all rows, hidden size], the rows one after the other.
            tokens: for each row those after them.
            parents: as in `Pass`.

        Returns:
            [entries of all rows, hidden size], what the head makes of them.
        """
        self._ledger.extend(rows, tokens, parents)
        plan = TorchPlan.of(self._ledger, rows, [len(new) for new in tokens])
        self._cache.begin(plan)
        flat = torch.tensor([token for new in tokens for token in new], device=self._embedding.device)
        embedded = torch.nn.functional.embedding(flat, self._embedding).to(states.dtype)

        def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            return self._attend(plan, queries, keys, values)

        found: torch.Tensor = self.head(states, embedded, attend)
        return found

    def _attend(self, plan: TorchPlan, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """[entries, heads * head size]; the rows are padded to the longest."""
        _, _, held = plan.slots_on(queries.device)
        positions = torch.from_numpy(plan.positions).to(queries.device)
        cos, sin = self._rotation(positions, queries)  # [batch, width, 1, head size]
        queries, keys, values = (_padded(x, plan, held) for x in (queries, keys, values))
        queries, keys = turned(queries, cos, sin), turned(keys, cos, sin)
        heads, key_heads, size = queries.shape[2], keys.shape[2], queries.shape[3]
        groups, batch, width = heads // key_heads, len(plan.rows), plan.width
        all_keys, all_values = self._cache.write(0, keys.transpose(1, 2), values.transpose(1, 2))
        # Query heads that share a key head follow one another, as if they were more queries.
        folded = queries.view(batch, width, key_heads, groups, size).permute(0, 2, 3, 1, 4)
        folded = folded.reshape(batch, key_heads, groups * width, size)
        mask = plan.mask(folded, groups, None)
        found = torch.nn.functional.scaled_dot_product_attention(folded, all_keys, all_values, attn_mask=mask)
        apart = found.view(batch, key_heads, groups, width, size).permute(0, 3, 1, 2, 4)
        apart = apart.reshape(batch * width, heads * size)
        return apart if held is None else apart[held]


def _padded(x: torch.Tensor, plan: TorchPlan, held: torch.Tensor | None) -> torch.Tensor:
    """[batch, width, heads, head size] of [entries, heads, head size]."""
    batch, width = len(plan.rows), plan.width
    if held is not None:
        whole = x.new_zeros((batch * width, *x.shape[1:]))
        whole[held] = x
        x = whole
    return x.reshape(batch, width, *x.shape[1:])
