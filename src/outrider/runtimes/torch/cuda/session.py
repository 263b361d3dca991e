"""The session of a model on a GPU: a pass is one copy to the device and one launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from outrider.errors import InputError
from outrider.maths.buckets import Buckets
from outrider.runtimes.base import LAST_KEPT, Draws, Pass, Scored, Traits
from outrider.runtimes.growing import Grown, TreePlan, fed_in
from outrider.runtimes.ledger import RaggedSession, scored
from outrider.runtimes.torch.cuda.drawn_rollout import area_size, draw_out
from outrider.runtimes.torch.cuda.forward import SlotForward
from outrider.runtimes.torch.cuda.graphs import CAPTURED_AT
from outrider.runtimes.torch.cuda.greedy_rollout import roll_out
from outrider.runtimes.torch.cuda.growing import TreeLayout
from outrider.runtimes.torch.cuda.outputs import MOST_DRAFTED, Outputs
from outrider.runtimes.torch.cuda.passes import Passes
from outrider.runtimes.torch.cuda.places import WORD, RowPlaces
from outrider.runtimes.torch.cuda.slots import SlotCache
from outrider.runtimes.torch.cuda.staging import Layout, Staging
from outrider.runtimes.torch.cuda.tree_rollout import (
    MOST_CANDIDATES,
    MOST_Q,
    Grower,
    ModelSource,
    Source,
    tree_layout_of,
)
from outrider.runtimes.torch.cuda.verdicts.judge import DeviceJudge

# Small passes are not padded; larger ones by half at most. A draft of 4, 8, 16, ... has the pending token beside it.
WIDTHS = (1, 2, 3, 4, 5, 6, 9, 12, 17, 24, 33, 48, 65, 96, 128)
ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
BUCKETS = Buckets(ROWS, WIDTHS, CAPTURED_AT)
MOST_CAPTURED = 32 * 65  # tokens: a larger pass takes longer than its launches


def most_padded(rows: int) -> int:
    """Tokens of the largest padded pass."""
    return BUCKETS.padded_rows(rows) * WIDTHS[-1]


class GraphSession(RaggedSession[SlotCache]):
    """A cache of fixed slots, static buffers, and graphs of the passes over them.

    A pass over few tokens of each row is padded to a bucket and replayed. Prompts are launched one operation after the
    other, without padding, by PyTorch's own attention.
    """

    def __init__(
        self,
        model: SlotForward,
        rows: int,
        capacity: int,
        name: str,
        traits: Traits,
    ) -> None:
        super().__init__(rows, capacity, name, traits)
        self._device = model.device
        self._cache = SlotCache(self._device, rows, capacity, model.shape, model.dtype)
        largest = Layout(BUCKETS.padded_rows(rows), WIDTHS[-1], WIDTHS[-1] // WORD)
        outputs = Outputs(model, min(largest.tokens, MOST_CAPTURED), largest.rows)
        self._passes = Passes(model, self._cache, largest, outputs, self._device.attention())
        self._judge = DeviceJudge(self._device, outputs.logits)
        self._draws: Staging | None = None  # made where drafts are first drawn
        self._growers: dict[tuple[TreeLayout, int], Grower] = {}

    @torch.inference_mode()
    def extend(self, work: Pass) -> Scored:
        self._append(work)
        rows = self._places(work.rows, [len(new) for new in work.tokens])
        layout = self._bucket(rows)
        with self._device.guard():
            if layout is None:
                (logits, hidden), settled = self._passes.long(work, rows), True
            else:
                (logits, hidden), settled = self._passes.padded(layout, work, rows)
            found = scored(work, logits, hidden, self._device.mark())
            return replace(found, settled=settled, judge=self._judge)

    @torch.inference_mode()
    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        bucket = BUCKETS.of(len(rows), 1)
        if bucket is None or not 1 < count <= MOST_DRAFTED:
            return super().rollout(rows, tokens, count, vocab_size)
        layout = Layout(*bucket)
        with self._device.guard():
            self._begin_rollout(layout, rows, tokens, count)
            found: list[list[int]] = roll_out(self._passes, layout, count, vocab_size).T.tolist()[: len(rows)]
        self._name_rolled(rows, found)
        return found

    @property
    def most_drawn(self) -> int:
        return ROWS[-1]

    @torch.inference_mode()
    def draw_out(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], draws: Draws, vocab_size: int
    ) -> tuple[list[list[int]], torch.Tensor]:
        bucket = BUCKETS.of(len(rows), 1)
        if bucket is None or draws.count > MOST_DRAFTED:
            raise InputError(
                f"{draws.count} tokens of {len(rows)} rows are to be drawn: at most {MOST_DRAFTED} of {ROWS[-1]} are"
            )
        layout = Layout(*bucket)
        if self._draws is None:
            self._draws = Staging(self._device, area_size(BUCKETS.padded_rows(self.rows), MOST_DRAFTED))
        with self._device.guard():
            self._begin_rollout(layout, rows, tokens, draws.count)
            found, q = draw_out(self._passes, self._draws, layout, draws, vocab_size)
        self._name_rolled(rows, found)
        return found, q

    def can_grow(self, plan: TreePlan, vocab_size: int) -> bool:
        rows = BUCKETS.padded_rows(self.rows)
        return (
            self.rows <= ROWS[-1]
            and plan.beam * tree_layout_of(plan, rows).words <= WIDTHS[-1] * WIDTHS[-1] // WORD  # what is staged
            and rows * plan.beam <= self._passes.outputs.tokens
            and plan.places * plan.most_children <= MOST_CANDIDATES
            and (all(row.chosen for row in plan.rows) or plan.places * rows * vocab_size <= MOST_Q)
        )

    @torch.inference_mode()
    def grow_trees(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], plan: TreePlan, vocab_size: int
    ) -> Grown:
        source = ModelSource(self._passes.outputs, vocab_size)
        with self._device.guard():
            self._feed_known(rows, tokens)
            return self._grow(rows, plan, source)

    def _grow(self, rows: Sequence[int], plan: TreePlan, source: Source) -> Grown:
        """Grow trees from the static outputs, and record what they are."""
        layout = tree_layout_of(plan, BUCKETS.padded_rows(len(rows)))
        grower = self._growers.get((layout, source.vocab_size))
        if grower is None:
            grower = Grower(self._passes, self._cache, self._device, layout, source)
            self._growers[layout, source.vocab_size] = grower
        ends = [self._ledger.end(row) for row in rows]
        nodes = plan.beam * (plan.depth - 1)
        if nodes:
            self._ledger.extend(rows, [[0] * nodes] * len(rows), None)
        grown = grower.grow(plan, rows, ends)
        for row, end, tokens, parents in zip(rows, ends, *fed_in(grown), strict=True):
            newest = end - self._ledger.length(row) - 1
            self._ledger.name_newest(row, tokens, [newest + above if above >= 0 else LAST_KEPT for above in parents])
        return grown

    def _feed_known(self, rows: Sequence[int], tokens: Sequence[Sequence[int]]) -> None:
        """Feed what is known, and leave its logits in the static outputs."""
        logits = self.extend(Pass(rows, tokens, wanted=[1] * len(rows))).logits
        self._passes.outputs.logits[: len(rows)].copy_(logits)

    def _begin_rollout(self, layout: Layout, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int) -> None:
        """Feed what is known, and stage the pass of the first drafted token."""
        self._feed_known(rows, tokens)
        starts = [self._ledger.end(row) for row in rows]
        # Which tokens they are is known when the device has chosen them.
        if count > 1:
            self._ledger.extend(rows, [[0] * (count - 1)] * len(rows), None)
        first = [RowPlaces(row, start, 1, start, None) for row, start in zip(rows, starts, strict=True)]
        self._passes.stage(layout, Pass(rows, [[0]] * len(rows)), first)

    def _name_rolled(self, rows: Sequence[int], found: Sequence[Sequence[int]]) -> None:
        """Record the tokens that a rollout found."""
        for row, chosen in zip(rows, found, strict=True):
            self._ledger.name_newest(row, chosen[:-1])

    def _places(self, rows: Sequence[int], counts: Sequence[int]) -> list[RowPlaces]:
        """Where the newest tokens of these rows go."""
        return [RowPlaces.of(self._ledger, row, count) for row, count in zip(rows, counts, strict=True)]

    def _bucket(self, rows: Sequence[RowPlaces]) -> Layout | None:
        """What the pass is padded to; None where it is too long, or a tree has too many nodes."""
        bucket = BUCKETS.of(len(rows), max(row.count for row in rows))
        if bucket is None:
            return None
        layout = Layout(*bucket, -(-bucket[1] // WORD))
        return layout if all(row.words <= layout.words for row in rows) else None
