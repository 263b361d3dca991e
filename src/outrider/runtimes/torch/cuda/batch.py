"""From the rows of a pass to the numbers in the staging area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from outrider.runtimes.base import Pass
from outrider.runtimes.torch.cuda.places import RowPlaces
from outrider.runtimes.torch.cuda.slots import SlotCache
from outrider.runtimes.torch.cuda.staging import Layout, Sections

Numbers = np.ndarray[Any, Any]


def fill_padded(area: Numbers, layout: Layout, work: Pass, rows: Sequence[RowPlaces], cache: SlotCache) -> None:
    """A pass that is padded to whole rows of one width.

    Padding writes behind the slots, and sees nothing.
    """
    area[: layout.size] = 0
    into = layout.sections(area)
    into.places[:] = cache.scratch
    fed = []
    for number, (row, tokens) in enumerate(zip(rows, work.tokens, strict=True)):
        first = number * layout.width
        here = slice(first, first + row.count)
        _fill_tokens(into, here, row, tokens, cache)
        into.slots[number], into.lengths[number] = row.row, row.base
        into.ancestors[number, : row.count] = row.ancestors(layout.words)
        fed.append(np.arange(first, first + row.count))
    _fill_numbers(into, fed, work)


def numbers_of_trees(row: RowPlaces) -> int:
    """How many numbers a row adds to a pass without padding, beside those of its tokens."""
    return 0 if row.parents is None else 2 + row.count * row.words


def fill_flat(area: Numbers, layout: Layout, work: Pass, rows: Sequence[RowPlaces], cache: SlotCache) -> int:
    """A pass whose rows lie one after the other, without padding; behind it, for each row that is a tree, its slot, its
    base and its ancestors.

    Returns:
        how many numbers there are.
    """
    area[: layout.size] = 0
    into = layout.sections(area)
    fed, first, end = [], 0, layout.size
    for row, tokens in zip(rows, work.tokens, strict=True):
        _fill_tokens(into, slice(first, first + row.count), row, tokens, cache)
        fed.append(np.arange(first, first + row.count))
        first += row.count
        if row.parents is not None:
            numbers = np.concatenate([[row.row, row.base], row.ancestors(row.words).ravel()])
            area[end : end + len(numbers)] = numbers
            end += len(numbers)
    _fill_numbers(into, fed, work)
    return end


def _fill_tokens(into: Sections, here: slice, row: RowPlaces, tokens: Sequence[int], cache: SlotCache) -> None:
    into.tokens[here] = tokens
    into.positions[here] = row.positions()
    first = row.row * cache.capacity + row.start
    into.places[here] = np.arange(first, first + row.count)


def _fill_numbers(into: Sections, fed: Sequence[Numbers], work: Pass) -> None:
    """Which tokens are scored, and which are no padding."""
    scored = [numbers[len(numbers) - wanted :] for numbers, wanted in zip(fed, work.wanted_counts, strict=True)]
    for section, parts in ((into.scored, scored), (into.fed, fed)):
        numbers = np.concatenate(parts)
        section[: len(numbers)] = numbers
