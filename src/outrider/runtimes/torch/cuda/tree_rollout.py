"""Trees of drafts that grow on the device: a copy of what the host tells, a launch for each level, one read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from outrider.errors import ModelError
from outrider.runtimes.growing import Grown, TreePlan
from outrider.runtimes.torch.cuda.device import Device
from outrider.runtimes.torch.cuda.growing import BAD, TreeLayout, Trees
from outrider.runtimes.torch.cuda.hashing import signed
from outrider.runtimes.torch.cuda.outputs import Outputs
from outrider.runtimes.torch.cuda.passes import Passes
from outrider.runtimes.torch.cuda.slots import SlotCache
from outrider.runtimes.torch.cuda.staging import Staging
from outrider.runtimes.torch.cuda.verdicts.settings import Filters, distributions, settings_of, sound

MOST_Q = 2**28  # numbers of distributions that are kept for a verdict
MOST_CANDIDATES = 1024  # of a tree: every one is compared with every other


class Source(Protocol):
    """What the children of nodes come from.

    Attributes:
        vocab_size: of the tokens that are drafted.
        ids: int64, the token of each logit; None where it is its number.
    """

    vocab_size: int

    @property
    def ids(self) -> torch.Tensor | None: ...

    def logits(self, count: int) -> torch.Tensor:
        """float32 [count, logits], after the first entries of the pass."""

    def pass_on(self, entries: torch.Tensor) -> None:
        """Leave for the next pass what it goes on from: of these entries of the last one, int64 [entries]."""


class ModelSource:
    """The logits of a draft model, which goes on from its tokens alone."""

    ids = None

    def __init__(self, outputs: Outputs, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._outputs = outputs

    def logits(self, count: int) -> torch.Tensor:
        return self._outputs.logits[:count, : self.vocab_size].float()

    def pass_on(self, entries: torch.Tensor) -> None:
        pass


class Grower:
    """Grows the trees of one shape.

    Args:
        passes: of the draft model; the logits of the text lie in its static outputs.
        cache: of the same.
    """

    def __init__(self, passes: Passes, cache: SlotCache, device: Device, layout: TreeLayout, source: Source) -> None:
        self._passes, self._cache, self._layout, self._fetch = passes, cache, layout, device.fetch
        self._staging = staging = Staging(device, layout.size)
        self._source = source
        self._trees = Trees(layout, layout.sections(staging.there), staging.there.device)
        self._q = passes.outputs.drawn(layout.places, layout.rows, source.vocab_size) if layout.drawn else None

    def grow(self, plan: TreePlan, slots: Sequence[int], ends: Sequence[int]) -> Grown:
        """Grow the trees.

        Args:
            slots, ends: of each row, and where its nodes go in the slot.

        Raises:
            ModelError: a logit is not a finite number.
        """
        layout, trees = self._layout, self._trees
        fill(self._staging.area(), layout, plan, slots, ends)
        self._staging.copy(layout.size)
        key, last = (layout, self._source.vocab_size), plan.depth - 1
        for level in range(last):
            self._passes.run(("tree", *key, level), self._step(level))
        self._passes.run(("last of tree", *key, last), lambda: self._sprout(last))
        used, places = len(slots), layout.level(last).stop
        parts = (trees.above[..., None], trees.tokens, trees.probabilities.view(torch.int64))
        found = self._fetch(torch.cat([part[:used, :places] for part in parts], dim=-1))()
        if (found[..., 0] == BAD).any():
            raise ModelError(
                "the drafter produced a logit that is not a finite number: try --draft-dtype float32, or another model"
            )
        children = layout.most_children
        probabilities = np.ascontiguousarray(found[..., 1 + children :]).view(np.float64)
        return Grown(found[..., 0], found[..., 1 : 1 + children], probabilities, self._q)

    def _step(self, level: int) -> Callable[[], None]:
        layout, cache = self._layout, self._cache
        into = self._passes.sections(layout.batch)

        def step() -> None:
            self._sprout(level)
            parents = self._trees.plan(level, into, cache.capacity, cache.scratch)
            before = layout.level(level)
            first = torch.arange(layout.rows, device=parents.device)[:, None] * (before.stop - before.start)
            self._source.pass_on((first + parents.clamp(min=0)).flatten())
            self._passes.into_outputs(layout.batch)

        return step

    def _sprout(self, level: int) -> None:
        """The children of the nodes of a level, from the logits of the last pass."""
        layout, trees, source = self._layout, self._trees, self._source
        if level == 0:
            trees.begin()
        here = layout.level(level)
        shape = (layout.rows, here.stop - here.start)
        logits = source.logits(shape[0] * shape[1])
        p = distributions(logits, trees.settings(level), layout.filters)
        count = min(layout.widths[level], p.shape[-1])
        probabilities, tokens = torch.topk(p, count, dim=-1)
        if source.ids is not None:
            tokens = source.ids[tokens]
        if self._q is not None:
            q = p
            if source.ids is not None:
                q = torch.zeros(len(p), source.vocab_size, device=p.device).index_copy(1, source.ids, p)
            drawn = trees.draw(level, q, count)
            tokens = torch.where(trees.choosing(shape[1])[:, None], tokens, drawn)
            self._q[here].copy_(q.view(*shape, -1).transpose(0, 1))
        trees.open(level, tokens.view(*shape, -1), probabilities.view(*shape, -1), sound(logits).view(shape))


def tree_layout_of(plan: TreePlan, rows: int) -> TreeLayout:
    """The shape of trees.

    Args:
        rows: with padding.
    """
    steps = max((len(row.steps) for row in plan.rows), default=0)
    return TreeLayout(
        rows,
        plan.widths,
        plan.beam,
        plan.fixed,
        steps=1 << steps.bit_length() if steps else 0,  # one more than the prices, at least
        drawn=not all(row.chosen for row in plan.rows),
        factors=() if plan.factors is None else plan.factors.shape,
        filters=Filters.of([row.sampling for row in plan.rows]),
    )


def fill(
    area: np.ndarray[Any, np.dtype[np.int64]],
    layout: TreeLayout,
    plan: TreePlan,
    slots: Sequence[int],
    ends: Sequence[int],
) -> None:
    """What the host tells; rows that are padding have trees without a level."""
    area[: layout.size] = 0
    into, used = layout.sections(area), len(slots)
    into["settings"][:] = np.array([1.0, 0.0, 1.0, 0.0])[:, None]
    into["settings"][:, :used] = np.stack([settings_of(row.sampling) for row in plan.rows], axis=1)
    numbers: dict[str, Sequence[float]] = {
        "slots": slots,
        "ends": ends,
        "nodes": [row.nodes for row in plan.rows],
        "depths": [row.depth for row in plan.rows],
        "chosen": [row.chosen for row in plan.rows],
        "words": [signed(row.keys.word) for row in plan.rows],
        "positions": [row.keys.position for row in plan.rows],
        "lasts": [signed(row.keys.last) for row in plan.rows],
        "branches": [row.keys.branch for row in plan.rows],
        "least": [row.least for row in plan.rows],
    }
    for name, values in numbers.items():
        into[name][:used] = values
    if layout.steps:
        into["steps"][:] = -math.inf
        for line, row in zip(into["steps"], plan.rows, strict=False):
            if row.steps:
                line[:] = math.inf
                line[: len(row.steps)] = row.steps
    if layout.factors:
        into["factors"][:] = plan.factors
