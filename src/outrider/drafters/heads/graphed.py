"""A head on a GPU: its passes are those of a session of one layer, which replays them as captured graphs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from outrider.drafters.heads.entries import newest_of
from outrider.drafters.heads.graphed_rollout import HeadSession, HeadSource
from outrider.drafters.heads.module import Eagle3
from outrider.drafters.heads.network import Chains, Rolled
from outrider.drafters.heads.states import Rotation, turned
from outrider.runtimes.base import Parents, Pass, Traits
from outrider.runtimes.growing import Grown, TreePlan
from outrider.runtimes.torch.cuda.device import Device
from outrider.runtimes.torch.cuda.forward import Attend
from outrider.runtimes.torch.cuda.session import most_padded
from outrider.runtimes.torch.cuda.slots import SlotCache
from outrider.runtimes.torch.llama_layers import Shape


class HeadForward:
    """The forward pass of a head, as `SlotForward`: in place of logits it returns what the head makes of each entry.

    Args:
        embedding: [vocabulary, hidden size].
        most: entries of a padded pass.

    Attributes:
        given: [at least the scored entries, hidden size], the states that the next pass goes on from, in the order of
            the scored entries; after the last of them the first one again and again.
    """

    def __init__(self, head: Eagle3, embedding: torch.Tensor, most: int, device: Device) -> None:
        config, like = head.config, head.norm.weight
        self.device, self.dtype = device, like.dtype
        self.windows: tuple[int | None, ...] = (None,)
        self.shape = Shape(1, config.heads, config.key_heads, config.head_size, config.epsilon)
        self.vocab_size = self.hidden_size = config.hidden_size
        self.given = torch.zeros(most, config.hidden_size, dtype=like.dtype, device=device.place)
        self._head = head
        self._embedding = embedding
        self._rotation = Rotation(head, device.place)

    def __call__(
        self,
        cache: SlotCache,
        tokens: torch.Tensor,
        positions: torch.Tensor,
        places: torch.Tensor,
        attend: Attend,
        scored: torch.Tensor,
        layers: Sequence[int] = (),
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """One pass; every entry that is no padding is scored."""
        given = self.given[: len(scored)]
        states = given.new_zeros(len(tokens), given.shape[1]).index_copy(0, scored, given)
        embedded = torch.nn.functional.embedding(tokens, self._embedding).to(states.dtype)

        def attention(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            cos, sin = self._rotation(positions, queries)
            cache.write(0, places, turned(keys, cos, sin), values)
            return attend(0, turned(queries, cos, sin)).reshape(len(tokens), -1)

        made: torch.Tensor = self._head(states, embedded, attention)
        return made.index_select(0, scored), ()


class GraphedStates:
    """As `HeadStates`, with passes that are replayed.

    Args:
        embedding: [vocabulary, hidden size].
        ids: int64 [draft vocabulary], the target's.
        rows, capacity: how many texts, and entries of each.
    """

    def __init__(
        self, head: Eagle3, embedding: torch.Tensor, ids: torch.Tensor, rows: int, capacity: int, device: Device
    ) -> None:
        self.rows = rows
        self._head, self._ids = head, ids.to(device.place)
        self._forward = HeadForward(head, embedding, most_padded(rows), device)
        traits = Traits(self._forward.vocab_size, capacity)
        self._session = HeadSession(self._forward, rows, capacity, "head", traits)

    def length(self, row: int) -> int:
        return self._session.length(row)

    def keep(self, row: int, count: int) -> None:
        self._session.keep(row, range(count))

    def truncate(self, row: int, length: int) -> None:
        self._session.truncate(row, length)

    def release(self, row: int) -> None:
        self._session.release(row)

    def read(self, rows: Sequence[int], states: torch.Tensor, tokens: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """As `Entries.read`."""
        return newest_of(self.extend(rows, states, tokens), tokens)

    @torch.inference_mode()
    def extend(
        self,
        rows: Sequence[int],
        states: torch.Tensor,
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
    ) -> torch.Tensor:
        """As `Entries.extend`."""
        work, static = Pass(rows, tokens, parents), self._forward.given
        if len(states) <= len(static):
            static.copy_(states[:1].expand_as(static))
            static[: len(states)].copy_(states)
        else:
            self._forward.given = states
        try:
            made: torch.Tensor = self._session.extend(work).logits.clone()
        finally:
            self._forward.given = static
        return made

    def can_grow(self, plan: TreePlan, vocab_size: int) -> bool:
        return self._session.can_grow(plan, vocab_size)

    @torch.inference_mode()
    def grow_trees(self, rows: Sequence[int], made: torch.Tensor, plan: TreePlan, vocab_size: int) -> Grown:
        """As `GrowsOut.grow_trees`."""
        source = HeadSource(self._head, self._forward.given, self._ids, self._session.outputs, vocab_size)
        return self._session.grow_after(rows, made, plan, source)

    @torch.inference_mode()
    def roll_out(self, rows: Sequence[int], made: torch.Tensor, chains: Chains) -> Rolled:
        """As `RollsOut.roll_out`."""
        return self._session.roll_out(self._head, self._forward.given, self._ids, rows, made, chains)
