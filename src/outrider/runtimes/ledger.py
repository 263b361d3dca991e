"""Which tokens every row of a session holds: the book-keeping that all runtimes share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from outrider.errors import InputError
from outrider.maths.arrays import Array, stack, top_of_logits
from outrider.maths.sampling import most_probable
from outrider.runtimes.base import LAST_KEPT, NOTHING, Parents, Pass, Scored, Top, Traits, at_once


class Ledger:
    """The tokens of every row, committed and tentative.

    It refuses what no cache can do, so that a runtime's own code only moves keys and values.
    """

    def __init__(self, rows: int, capacity: int) -> None:
        self.rows = rows
        self.capacity = capacity
        self._kept: list[list[int]] = [[] for _ in range(rows)]
        self._tentative: list[list[int]] = [[] for _ in range(rows)]
        self._parents: list[list[int]] = [[] for _ in range(rows)]

    def length(self, row: int) -> int:
        return len(self._kept[row])

    def end(self, row: int) -> int:
        """How many tokens the row holds, tentative ones included."""
        return len(self._kept[row]) + len(self._tentative[row])

    def kept(self, row: int) -> Sequence[int]:
        return self._kept[row]

    def parents(self, row: int) -> Sequence[int]:
        """The parents of the row's tentative tokens."""
        return self._parents[row]

    def extend(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], parents: Sequence[Parents | None] | None
    ) -> None:
        """Record the tokens as tentative: of all rows, or on an error of none."""
        given = parents if parents is not None else [None] * len(rows)
        if len(set(rows)) != len(rows) or (rows and not 0 <= min(rows) <= max(rows) < self.rows):
            raise InputError(f"rows {list(rows)} must be distinct and below {self.rows}, the rows of this session")
        resolved: list[Parents] = []
        for row, new, above in zip(rows, tokens, given, strict=True):
            first = len(self._tentative[row])
            if not new:
                raise InputError(f"row {row} is extended by no token: leave it out of the call instead")
            if self.end(row) + len(new) > self.capacity:
                raise InputError(
                    f"row {row} would hold {self.end(row) + len(new)} tokens: this session was opened for "
                    f"{self.capacity}; open it with a larger capacity"
                )
            nodes = range(first, first + len(new))
            if above is None:
                resolved.append(range(first - 1, first - 1 + len(new)))
                continue
            chosen = list(above)
            if len(chosen) != len(new) or not all(
                LAST_KEPT <= parent < node for parent, node in zip(chosen, nodes, strict=True)
            ):
                raise InputError(f"parents {chosen} of row {row}: one earlier tentative token each, or {LAST_KEPT}")
            resolved.append(chosen)
        for row, new, follows in zip(rows, tokens, resolved, strict=True):
            self._tentative[row].extend(new)
            self._parents[row].extend(follows)

    def keep(self, row: int, path: Sequence[int]) -> None:
        tentative, parents = self._tentative[row], self._parents[row]
        above = LAST_KEPT
        for node in path:
            if not 0 <= node < len(tentative) or parents[node] != above:
                raise InputError(f"path {list(path)} of row {row} does not lead from the last committed token down")
            above = node
        self._kept[row].extend([tentative[node] for node in path])
        self._drop_tentative(row)

    def truncate(self, row: int, length: int) -> None:
        if not 0 <= length <= len(self._kept[row]):
            raise InputError(f"row {row} cannot be cut to {length} tokens: it holds {len(self._kept[row])}")
        del self._kept[row][length:]
        self._drop_tentative(row)

    def adopt(self, row: int, source: int, length: int) -> None:
        if not 0 <= row < self.rows:
            raise InputError(f"row {row} cannot adopt a prefix: this session has {self.rows} rows")
        if not 0 <= length <= len(self._kept[source]):
            raise InputError(
                f"row {row} cannot adopt {length} tokens of row {source}: that row holds {len(self._kept[source])}"
            )
        self._kept[row] = self._kept[source][:length]
        self._drop_tentative(row)

    def name_newest(self, row: int, tokens: Sequence[int], parents: Parents | None = None) -> None:
        """Record the newest tentative tokens, which were not known when they were fed (`rollout` on a device).

        Args:
            parents: default those that are recorded.
        """
        first = len(self._tentative[row]) - len(tokens)
        self._tentative[row][first:] = tokens
        if parents is not None:
            self._parents[row][first:] = parents

    def ancestors(self, row: int, node: int) -> list[int]:
        """The tentative tokens on the path to `node`: the node itself first, then its parent, and so on."""
        path = []
        while node != LAST_KEPT:
            path.append(node)
            node = self._parents[row][node]
        return path

    def context(self, row: int, node: int) -> list[int]:
        """The text that ends with `node`: committed tokens, then its path."""
        path = reversed(self.ancestors(row, node))
        return self._kept[row] + [self._tentative[row][ancestor] for ancestor in path]

    def _drop_tentative(self, row: int) -> None:
        self._tentative[row].clear()
        self._parents[row].clear()


class LedgerSession(ABC):
    """The part of a session that is the same in every runtime; a runtime adds `extend`, `keep`, `adopt` and `release`.

    Args:
        name: of the model, for messages.
        traits: of the model.
    """

    def __init__(self, rows: int, capacity: int, name: str, traits: Traits) -> None:
        self._ledger = Ledger(rows, capacity)
        self._name = name
        self._traits = traits
        self._granted = NOTHING  # the features that a pass was asked for last; checked once

    @property
    def rows(self) -> int:
        return self._ledger.rows

    @property
    def capacity(self) -> int:
        return self._ledger.capacity

    def length(self, row: int) -> int:
        return self._ledger.length(row)

    @abstractmethod
    def extend(self, work: Pass) -> Scored: ...

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        drafted: list[list[int]] = [[] for _ in rows]
        feeds = tokens
        for _ in range(count):
            logits = self.extend(Pass(rows, feeds, wanted=[1] * len(rows))).logits
            choices = most_probable(logits[:, :vocab_size]).tolist()
            for draft, choice in zip(drafted, choices, strict=True):
                draft.append(choice)
            feeds = [[choice] for choice in choices]
        return drafted

    def truncate(self, row: int, length: int) -> None:
        self._ledger.truncate(row, length)

    @abstractmethod
    def adopt(self, row: int, source: int, length: int) -> None: ...

    def _append(self, work: Pass) -> None:
        """Record the tokens of a pass as tentative; refuse what cannot be computed."""
        if work.features is not self._granted:
            refusal = self._traits.refusal(work.features)
            if refusal is not None:
                raise InputError(f"model {self._name} cannot be asked for this: {refusal}")
            self._granted = work.features
        self._ledger.extend(work.rows, work.tokens, work.parents)


class RowCache(Protocol):
    """A KV cache in which every row has its own memory: rolling back only lowers the row's length."""

    def move(self, row: int, sources: Sequence[int], target: int) -> None:
        """Put the entries at `sources` one after the other from `target` on, in every layer."""

    def adopt(self, row: int, source: int, length: int) -> None:
        """Copy the first `length` entries of row `source`, in every layer, and overwrite what the row holds beyond."""

    def clear(self, row: int) -> None:
        """Overwrite a row: its NaN would reach the next text through any mask."""


Cache = TypeVar("Cache", bound=RowCache)


class RaggedSession(LedgerSession, Generic[Cache]):
    """A session over a cache of its own rows; keeping a branch of a tree copies what is not in place.

    A subclass sets `_cache`.
    """

    _cache: Cache

    def keep(self, row: int, path: Sequence[int]) -> None:
        kept = self._ledger.length(row)
        self._ledger.keep(row, path)
        if any(node != index for index, node in enumerate(path)):
            self._cache.move(row, [kept + node for node in path], kept)

    def adopt(self, row: int, source: int, length: int) -> None:
        self._ledger.adopt(row, source, length)
        self._cache.adopt(row, source, length)

    def release(self, row: int) -> None:
        self._cache.clear(row)
        self._ledger.truncate(row, 0)


def scored(work: Pass, logits: Array, hidden: tuple[Array, ...] = (), wait: Callable[[], None] = at_once) -> Scored:
    """What a pass returns; it adds the most probable tokens where they are asked for."""
    top = Top(*top_of_logits(logits, work.features.top)) if work.features.top else None
    return Scored(logits, hidden, top, wait)


def stacked(rows: Sequence[Array], vocab_size: int) -> Array:
    """Logits [rows, vocab] from one array [vocab] per row; there may be no row."""
    return stack(rows) if rows else np.empty((0, vocab_size), dtype=np.float32)
