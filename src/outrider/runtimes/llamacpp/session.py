"""Sessions of llama.cpp: rows and trees as sequences that share cells.

llama.cpp keeps keys and values in cells. A cell belongs to one or more *sequences*, and a token attends to the earlier
cells of its own sequence. A row is a sequence. A tree has one sequence per leaf, and a node belongs to the sequences of
all leaves below it: it is computed once, and only those see it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from outrider.errors import InputError
from outrider.maths.arrays import Array
from outrider.runtimes.base import LAST_KEPT, Pass, Scored, Traits
from outrider.runtimes.ledger import LedgerSession, scored
from outrider.runtimes.llamacpp.context import Context


@dataclass(slots=True)
class _Row:
    """The sequences of a row: each holds the committed tokens and a path of tentative ones.

    Attributes:
        main: the sequence that the row always has.
        ends: for each sequence its last tentative token, LAST_KEPT where it has none.
        mirrors: idle sequences, and how many of the committed tokens each still shares. The next tree reuses one and
            copies only the rest.
        depths: for each tentative token the length of its path, itself included.
    """

    main: int
    ends: dict[int, int]
    mirrors: dict[int, int] = field(default_factory=dict)
    depths: list[int] = field(default_factory=list)

    def depth(self, node: int) -> int:
        return 0 if node == LAST_KEPT else self.depths[node]


class LlamaCppSession(LedgerSession):
    """A context of llama.cpp. The logits are its own memory: the next `extend` overwrites them.

    Args:
        sharing: the offsets from a sequence's number to itself and, in windowed models, to its twin.
    """

    def __init__(
        self, context: Context, rows: int, capacity: int, sharing: Sequence[int], name: str, traits: Traits
    ) -> None:
        super().__init__(rows, capacity, name, traits)
        self._context = context
        self._sharing = sharing
        self._rows = [_Row(row, {row: LAST_KEPT}) for row in range(rows)]
        self._free = list(range(rows, context.sequences // len(sharing)))

    def extend(self, work: Pass) -> Scored:
        self._append(work)
        batch = self._context.batch
        batch.clear()  # a refused pass may have left tokens in it
        pieces: list[Array] = []
        for row, new, count in zip(work.rows, work.tokens, work.wanted_counts, strict=True):
            holders = self._assign(row, len(new))
            held, depths = self._ledger.length(row), self._rows[row].depths[-len(new) :]
            for place, token in enumerate(new):
                if batch.is_full:
                    pieces.append(self._context.decode().copy())
                batch.add(token, held + depths[place] - 1, holders[place], place >= len(new) - count)
        pieces.append(self._context.decode())
        return scored(work, pieces[0] if len(pieces) == 1 else np.concatenate(pieces))

    def keep(self, row: int, path: Sequence[int]) -> None:
        state, held = self._rows[row], self._ledger.length(row)
        last = path[-1] if path else LAST_KEPT
        chosen = self._holder(row, last)
        self._ledger.keep(row, path)
        if state.ends[chosen] != last:
            self._cut(chosen, held + len(path))
        self._settle(state, chosen, held)

    def truncate(self, row: int, length: int) -> None:
        self._ledger.truncate(row, length)
        self._cut_row(row, length)

    def adopt(self, row: int, source: int, length: int) -> None:
        if row == source:
            self.truncate(row, length)
            return
        self._ledger.adopt(row, source, length)
        self._empty(row)
        for shift in self._sharing:  # both sequences hold the cells: nothing is copied
            self._context.copy(self._rows[source].main + shift, self._rows[row].main + shift, 0, length)

    def release(self, row: int) -> None:
        self._ledger.truncate(row, 0)
        self._empty(row)
        if not any(self._ledger.end(other) for other in range(self.rows)):
            self._context.wipe_if_spoilt()

    def _empty(self, row: int) -> None:
        """Take its cells from all sequences of a row, whose mirrors are free again."""
        self._cut_row(row, 0)
        state = self._rows[row]
        self._free += state.mirrors
        state.mirrors.clear()

    def _cut_row(self, row: int, length: int) -> None:
        state = self._rows[row]
        self._cut(state.main, length)
        self._settle(state, state.main, length)
        for sequence, shared in state.mirrors.items():
            if shared > length:
                self._cut(sequence, length)
                state.mirrors[sequence] = length

    def _assign(self, row: int, count: int) -> list[list[int]]:
        """For each of the newest `count` tokens its sequences: one for every leaf below it."""
        state, parents = self._rows[row], self._ledger.parents(row)
        first = len(parents) - count
        for node in range(first, len(parents)):
            state.depths.append(1 + state.depth(parents[node]))
        if not first and state.depths[-1] == count:  # a chain
            state.ends = {state.main: count - 1}
            return [[state.main + shift for shift in self._sharing]] * count
        with_children = set(parents[first:])
        holders: list[list[int]] = [[] for _ in range(count)]
        for leaf in range(first, len(parents)):
            if leaf in with_children:
                continue
            path = []
            node = leaf
            while node >= first:
                path.append(node)
                node = parents[node]
            sequence = self._sequence_after(row, node)
            state.ends[sequence] = leaf
            for member in path:
                holders[member - first].append(sequence)
        if len(self._sharing) > 1:
            holders = [[sequence + shift for shift in self._sharing for sequence in held] for held in holders]
        return holders

    def _sequence_after(self, row: int, node: int) -> int:
        """A sequence that ends with the tentative token `node`, which an earlier call fed."""
        state = self._rows[row]
        for sequence, end in state.ends.items():
            if end == node:
                return sequence
        fresh = self._sequence_at_rest(state)
        shared = state.mirrors.pop(fresh, 0)
        source = self._holder(row, node)
        for shift in self._sharing:
            self._context.copy(source + shift, fresh + shift, shared, self._ledger.length(row) + state.depth(node))
        return fresh

    def _sequence_at_rest(self, state: _Row) -> int:
        if state.mirrors:
            return max(state.mirrors, key=state.mirrors.__getitem__)
        if self._free:
            return self._free.pop()
        for other in self._rows:
            if other.mirrors:
                sequence, _ = other.mirrors.popitem()
                self._cut(sequence, 0)
                return sequence
        raise InputError(
            f"the trees of {self.rows} rows have more leaves than llama.cpp has sequences: draft smaller trees, or "
            "open fewer rows"
        )

    def _holder(self, row: int, node: int) -> int:
        """A sequence whose path contains `node`; the main one if none does (the ledger then refuses the node)."""
        state = self._rows[row]
        if len(state.ends) == 1 or node == LAST_KEPT:
            return state.main
        through = (s for s, end in state.ends.items() if node in self._ledger.ancestors(row, end))
        return next(through, state.main)

    def _settle(self, state: _Row, main: int, shared: int) -> None:
        """Drop what is tentative: `main` goes on, the other sequences become mirrors of `shared` committed tokens."""
        for sequence in state.ends:
            if sequence != main:
                self._cut(sequence, shared)
                state.mirrors[sequence] = shared
        state.main = main
        state.ends = {main: LAST_KEPT}
        state.depths.clear()

    def _cut(self, sequence: int, length: int) -> None:
        for shift in self._sharing:
            self._context.cut(sequence + shift, length)


class Texts:
    """Texts in sequences of their own; a sequence is free again when nobody holds its text."""

    def __init__(self, context: Context, sequences: int) -> None:
        self.context = context
        self._free = list(range(sequences))

    def new(self) -> _Text:
        if not self._free:
            raise InputError(
                "a tree has more branches than llama.cpp has snapshots of the state: draft chains, or trees with fewer "
                "branches"
            )
        sequence = self._free.pop()
        return _Text(self, sequence)

    def give_back(self, sequence: int) -> None:
        self.context.cut(sequence, 0)
        self._free.append(sequence)


class _Text:
    """The state of a model after a text: a State of replay.py."""

    def __init__(self, texts: Texts, sequence: int) -> None:
        self._texts = texts
        self._sequence = sequence
        self._length = 0
        weakref.finalize(self, texts.give_back, sequence).atexit = False

    def read(self, tokens: Sequence[int], wanted: int) -> Array:
        context, pieces = self._texts.context, []
        context.batch.clear()
        for place, token in enumerate(tokens):
            if context.batch.is_full:
                pieces.append(context.decode().copy())
            context.batch.add(token, self._length + place, [self._sequence], place >= len(tokens) - wanted)
        pieces.append(context.decode().copy())
        self._length += len(tokens)
        return np.concatenate(pieces)

    def copy(self) -> _Text:
        other = self._texts.new()
        self._texts.context.copy(self._sequence, other._sequence, 0, -1)
        other._length = self._length
        return other
