"""Chains and trees of a head that are rolled out on a GPU: one launch for each token or level, one read at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from outrider.drafters.heads.module import Eagle3
from outrider.drafters.heads.network import Chains, Rolled
from outrider.errors import ModelError
from outrider.maths.arrays.torch import exponential_of
from outrider.runtimes.base import Pass
from outrider.runtimes.growing import Grown, TreePlan
from outrider.runtimes.torch.cuda.outputs import MOST_DRAFTED, Outputs
from outrider.runtimes.torch.cuda.places import RowPlaces
from outrider.runtimes.torch.cuda.session import BUCKETS, GraphSession
from outrider.runtimes.torch.cuda.staging import Layout, Staging
from outrider.runtimes.torch.cuda.verdicts.settings import SETTINGS, Filters, distributions, settings_of, sound

WORDS = 2  # of a key


class HeadSource:
    """The logits of a head, which goes on from its own states.

    Args:
        given: from where the next pass takes its states, see `HeadForward`.
        ids: int64 [draft vocabulary], on the device.
        outputs: what the head makes of each entry is in place of logits there.
        vocab_size: of the target.
    """

    def __init__(self, head: Eagle3, given: torch.Tensor, ids: torch.Tensor, outputs: Outputs, vocab_size: int) -> None:
        self.ids, self.vocab_size = ids, vocab_size
        self._head, self._given, self._made = head, given, outputs.logits

    def logits(self, count: int) -> torch.Tensor:
        return self._head.logits(self._made[:count]).float()

    def pass_on(self, entries: torch.Tensor) -> None:
        self._given[: len(entries)].copy_(self._head.passed_on(self._made.index_select(0, entries)))


class HeadSession(GraphSession):
    """The session of a head's one layer, which rolls out chains and trees by itself."""

    @property
    def outputs(self) -> Outputs:
        """What passes return."""
        return self._passes.outputs

    def grow_after(self, rows: Sequence[int], made: torch.Tensor, plan: TreePlan, source: HeadSource) -> Grown:
        """As `GrowsOut.grow_trees`."""
        with self._device.guard():
            self._put(BUCKETS.padded_rows(len(rows)), made)
            return self._grow(rows, plan, source)

    def roll_out(
        self,
        head: Eagle3,
        given: torch.Tensor,
        ids: torch.Tensor,
        rows: Sequence[int],
        made: torch.Tensor,
        chains: Chains,
    ) -> Rolled:
        """As `RollsOut.roll_out`.

        Args:
            head: whose layer this is.
            given: from where the next pass takes its states, see `HeadForward`.
            ids: int64 [draft vocabulary], on the device.
        """
        bucket = BUCKETS.of(len(rows), 1)
        assert bucket is not None, "an engine has no more rows than the largest bucket"
        layout, passes, outputs = Layout(*bucket), self._passes, self._passes.outputs
        with self._device.guard():
            self._stage(layout, rows, made, chains)
            area = self._numbers(layout, chains)
            q = outputs.drawn(chains.count, layout.rows, chains.vocab_size)
            shares = outputs.drawn(chains.count, layout.rows, 1)
            filters = Filters.of(chains.samplings)
            drawing = self._drawing(head, ids, layout, area, q, shares, filters)
            key = (layout, len(q), chains.vocab_size, filters)

            def step() -> None:
                drawing()
                given[: layout.rows].copy_(head.passed_on(outputs.logits[: layout.rows]))
                passes.into_outputs(layout)
                passes.sections(layout).counters.add_(1)

            for _ in range(chains.count - 1):
                passes.run(("head", *key), step)
            passes.run(("head's last", *key), drawing)
            count, used = chains.count, len(rows)
            tokens = outputs.drafted[:count, :used]
            both = torch.stack([tokens, shares[:count, :used, 0].double().view(torch.int64)]).cpu().numpy()
        if (both[0] < 0).any():
            raise ModelError("the draft head produced a logit that is not a finite number: try another dtype")
        return Rolled(both[0].T.tolist(), both[1].view(np.float64).T.tolist(), q[:count, :used])

    def _stage(self, layout: Layout, rows: Sequence[int], made: torch.Tensor, chains: Chains) -> None:
        """Make all ready for the first step."""
        starts = [self._ledger.end(row) for row in rows]
        if chains.count > 1:
            self._ledger.extend(rows, [[0] * (chains.count - 1)] * len(rows), None)
        first = [RowPlaces(row, start, 1, start, None) for row, start in zip(rows, starts, strict=True)]
        self._put(layout.rows, made)
        self._passes.stage(layout, Pass(rows, [[0]] * len(rows)), first)

    def _put(self, rows: int, made: torch.Tensor) -> None:
        """What the head made of the text goes where the first step reads it; padding repeats the first row."""
        into = self.outputs.logits[:rows]
        into.copy_(made[:1].expand_as(into))
        into[: len(made)].copy_(made)

    def _numbers(self, layout: Layout, chains: Chains) -> torch.Tensor:
        """Settings, which rows choose, and the keys of all steps, on the device."""
        if self._draws is None:
            most = BUCKETS.padded_rows(self.rows) * (SETTINGS + 1 + WORDS * MOST_DRAFTED)
            self._draws = Staging(self._device, most)
        rows, used = layout.rows, len(chains.keys)
        area = self._draws.area()
        size = rows * (SETTINGS + 1 + WORDS * chains.count)
        area[:size] = 0
        settings = area[: SETTINGS * rows].view(np.float64).reshape(SETTINGS, rows)
        settings[:] = np.array([1.0, 0.0, 1.0, 0.0])[:, None]
        settings[:, :used] = np.stack([settings_of(sampling) for sampling in chains.samplings], axis=1)
        area[SETTINGS * rows : SETTINGS * rows + used] = chains.chosen
        keys: Any = np.array(chains.keys, dtype=np.uint32).view(np.int32)  # [rows, steps, WORDS]
        area[(SETTINGS + 1) * rows : size].reshape(chains.count, rows, WORDS)[:, :used] = keys.transpose(1, 0, 2)
        self._draws.copy(size)
        return self._draws.there

    def _drawing(
        self,
        head: Eagle3,
        ids: torch.Tensor,
        layout: Layout,
        area: torch.Tensor,
        q: torch.Tensor,
        shares: torch.Tensor,
        filters: Filters,
    ) -> Callable[[], None]:
        """What finds the token of a step, and leaves it where the next pass reads it."""
        rows, vocab_size = layout.rows, q.shape[-1]
        settings = area[: SETTINGS * rows].view(torch.float64).view(SETTINGS, rows)
        chosen = area[SETTINGS * rows : (SETTINGS + 1) * rows]
        keys = area[(SETTINGS + 1) * rows : (SETTINGS + 1 + WORDS * len(q)) * rows].view(-1, rows, WORDS)
        into, outputs = self._passes.sections(layout), self._passes.outputs

        def drawing() -> None:
            logits = head.logits(outputs.logits[:rows]).float()
            narrow = distributions(logits, settings, filters)
            largest, place = narrow.max(dim=-1)
            wide = torch.zeros(rows, vocab_size, device=narrow.device).index_copy(1, ids, narrow)
            noise = exponential_of(keys.index_select(0, into.step)[0].int(), vocab_size)
            token = torch.where(chosen > 0, ids[place], (wide / noise).argmax(dim=-1))
            into.tokens.copy_(token)
            q.index_copy_(0, into.step, wide[None])
            shares.index_copy_(0, into.step, largest[None, :, None])
            outputs.drafted[:, :rows].index_copy_(0, into.step, torch.where(sound(logits), token, -1)[None])

        return drawing
