"""Passes over static buffers: padded ones, which are captured and replayed, and long ones, launched as they come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from outrider.runtimes.base import Pass
from outrider.runtimes.torch.cuda.attention import TreeAttention
from outrider.runtimes.torch.cuda.batch import fill_flat, fill_padded, numbers_of_trees
from outrider.runtimes.torch.cuda.device import Work
from outrider.runtimes.torch.cuda.forward import SlotForward
from outrider.runtimes.torch.cuda.graphs import Graphs
from outrider.runtimes.torch.cuda.outputs import Outputs
from outrider.runtimes.torch.cuda.places import RowPlaces
from outrider.runtimes.torch.cuda.prompts import attend_to_text
from outrider.runtimes.torch.cuda.sight import Sight
from outrider.runtimes.torch.cuda.slots import SlotCache
from outrider.runtimes.torch.cuda.staging import Layout, Sections, Staging

PROMPT = 4096  # numbers that the area of long passes holds at first
Results = tuple[torch.Tensor, tuple[torch.Tensor, ...]]  # logits, and hidden states of the layers


class Passes:
    """Runs passes of a model over one cache.

    Args:
        largest: the largest padded pass.
        attention: over trees.

    Attributes:
        outputs: of passes that are replayed.
    """

    def __init__(
        self, model: SlotForward, cache: SlotCache, largest: Layout, outputs: Outputs, attention: TreeAttention
    ) -> None:
        self.outputs = outputs
        self._model = model
        self._cache = cache
        self._attention = attention
        self._graphs = Graphs(model.device)
        self._staging = Staging(model.device, largest.size + 2 * largest.tokens)
        self._long = Staging(model.device, PROMPT)  # may be exchanged for a larger one: no graph reads it

    def padded(self, layout: Layout, work: Pass, rows: Sequence[RowPlaces]) -> tuple[Results, bool]:
        """A pass padded to a layout.

        Returns:
            the results, which the next padded pass may overwrite, and whether it ran as it will run from now on.
        """
        self.stage(layout, work, rows)
        layers, scored, fed = work.features.hidden, sum(work.wanted_counts), sum(map(len, work.tokens))
        if layout.tokens > self.outputs.tokens:
            logits, hidden = self._compute(layout, layers)
            return (logits[:scored], tuple(state[:fed] for state in hidden)), True
        settled = self._graphs.run((layout, layers), lambda: self.into_outputs(layout, layers))
        hidden = self.outputs.hidden(layers)
        return (self.outputs.logits[:scored], tuple(state[:fed] for state in hidden)), settled

    def stage(self, layout: Layout, work: Pass, rows: Sequence[RowPlaces]) -> None:
        """Bring the numbers of a padded pass to the device."""
        area = self._staging.area()
        fill_padded(area, layout, work, rows, self._cache)
        self._send(self._staging, area, layout.size)

    def sections(self, layout: Layout) -> Sections:
        """The numbers of a padded pass on the device, which graphs read."""
        return layout.sections(self._staging.there)

    def into_outputs(self, layout: Layout, layers: Sequence[int] = ()) -> None:
        """The padded pass that is staged, into the static outputs."""
        logits, hidden = self._compute(layout, layers)
        self.outputs.logits[: layout.tokens].copy_(logits)
        for into, state in zip(self.outputs.hidden(layers), hidden, strict=True):
            into[: layout.tokens].copy_(state)

    def run(self, key: object, work: Work) -> bool:
        """As `Graphs.run`."""
        return self._graphs.run(key, work)

    def long(self, work: Pass, rows: Sequence[RowPlaces]) -> Results:
        """A pass of any size, without padding."""
        layout = Layout(1, sum(row.count for row in rows), 0)
        size = layout.size + sum(numbers_of_trees(row) for row in rows) + 2 * len(self._cache.moves)
        if size > self._long.size:
            self._long = Staging(self._model.device, size)
        area = self._long.area()
        end = fill_flat(area, layout, work, rows, self._cache)
        self._send(self._long, area, end)
        numbers = layout.sections(self._long.there)
        trees = self._sights_of_trees(rows, self._long.there[layout.size : end])

        def attend(layer: int, queries: torch.Tensor) -> torch.Tensor:
            return self._attend_to_rows(layer, queries, rows, trees)

        return self._model(
            self._cache,
            numbers.tokens,
            numbers.positions,
            numbers.places,
            attend,
            numbers.scored[: sum(work.wanted_counts)],
            work.features.hidden,
        )

    def _compute(self, layout: Layout, layers: Sequence[int]) -> Results:
        """The padded pass that is staged; hidden states of what is no padding come first."""
        numbers = self.sections(layout)
        cache, heads, size = self._cache, self._model.shape.heads, self._model.shape.head_size
        sights = self._sights(Sight(numbers.slots, numbers.lengths, numbers.ancestors))

        def attend(layer: int, queries: torch.Tensor) -> torch.Tensor:
            padded = queries.view(layout.rows, layout.width, heads, size)
            return self._attend(padded, layer, sights)

        logits, hidden = self._model(
            cache, numbers.tokens, numbers.positions, numbers.places, attend, numbers.scored, layers
        )
        return logits, tuple(state.index_select(0, numbers.fed) for state in hidden)

    def _attend_to_rows(
        self,
        layer: int,
        queries: torch.Tensor,
        rows: Sequence[RowPlaces],
        trees: Sequence[dict[int | None, Sight]],
    ) -> torch.Tensor:
        keys, values, window = self._cache.keys(layer), self._cache.values(layer), self._model.windows[layer]
        found, first, branched = [], 0, iter(trees)
        for row in rows:
            asked = queries[first : first + row.count]
            first += row.count
            if row.parents is None:
                found.append(attend_to_text(asked, keys[row.row, : row.end], values[row.row, : row.end], window))
            else:
                found.append(self._attend(asked[None], layer, next(branched))[0])
        return found[0] if len(found) == 1 else torch.cat(found)

    def _attend(self, queries: torch.Tensor, layer: int, sights: dict[int | None, Sight]) -> torch.Tensor:
        sight = sights[self._model.windows[layer]]
        return self._attention(
            queries, self._cache.keys(layer), self._cache.values(layer), sight.slots, sight.bases, sight.ancestors,
            oldest=sight.oldest,
        )  # fmt: skip

    def _sights(self, sight: Sight) -> dict[int | None, Sight]:
        """By the windows that layers have."""
        return {window: sight.within(window) for window in set(self._model.windows)}

    def _sights_of_trees(self, rows: Sequence[RowPlaces], numbers: torch.Tensor) -> list[dict[int | None, Sight]]:
        """For each row that is a tree, of the numbers that `fill_flat` put there."""
        found, first = [], 0
        for row in rows:
            if row.parents is not None:
                end = first + numbers_of_trees(row)
                ancestors = numbers[first + 2 : end].view(1, row.count, row.words)
                sight = Sight(numbers[first : first + 1], numbers[first + 1 : first + 2], ancestors)
                found.append(self._sights(sight))
                first = end
        return found

    def _send(self, staging: Staging, area: np.ndarray[tuple[int], np.dtype[np.int64]], end: int) -> None:
        """Copy what is staged to the device, and with it the moves of accepted branches, which come first."""
        moves = self._cache.moves
        last = end + 2 * len(moves)
        if moves:
            area[end:last] = np.array(moves).T.ravel()
        staging.copy(last)
        if moves:
            self._cache.carry_out(staging.there[end:last].view(2, len(moves)))
