"""What the engine asks of a model, whatever the runtime.

A *session* is a model with a key-value cache of several rows; a row holds one sequence. Each row has its own length;
rows are never re-aligned. Feeding is done in two phases: `extend` appends tokens tentatively, `keep` makes a path of
them permanent and drops the rest. That is all that chains, trees and ragged batches need.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from outrider.errors import InputError
from outrider.maths.arrays import Array
from outrider.text import Tokenizer

Parents = Sequence[int]
LAST_KEPT = -1  # the parent of a tentative token that follows the last permanent one


class Session(Protocol):
    """A model and the cache of up to `rows` sequences of up to `capacity` tokens each."""

    @property
    def rows(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    def length(self, row: int) -> int:
        """How many tokens of the row are permanent."""

    def extend(
        self,
        rows: Sequence[int],
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
        wanted: Sequence[int] | None = None,
    ) -> Array:
        """Append tokens tentatively to several rows, in one forward pass.

        May be called again before `keep`; the tentative tokens of a row are numbered on from 0.

        Args:
            rows: distinct row numbers.
            tokens: for each of them the tokens to append, at least one.
            parents: for each of them, and each token, the number of the tentative token that it follows, LAST_KEPT for
                the last permanent one. None is a chain that goes on from the newest tentative token.
            wanted: for each of them, of how many of the last tokens the logits are wanted; None is all.

        Returns:
            logits [sum of wanted, vocab] in the model's own precision, the rows one after the other. They may be the
            runtime's own memory, which the next call overwrites.

        Raises:
            InputError: a row would grow beyond the capacity, or a parent does not exist.
        """

    def keep(self, row: int, path: Sequence[int]) -> None:
        """Make the tentative tokens of `path` permanent, in this order, and drop the others.

        Raises:
            InputError: `path` is not a path that starts at the last permanent token.
        """

    def truncate(self, row: int, length: int) -> None:
        """Drop tentative tokens, and permanent ones from position `length` on."""

    def release(self, row: int) -> None:
        """Empty the row for another sequence."""


class Model(Protocol):
    """A causal language model.

    A model with a cache of keys and values also says `bytes_per_token` (of one row) and `free_bytes()`, so that memory
    can be planned; one whose passes pad all rows to the longest says `pads_rows = True`; a session of a runtime that
    computes asynchronously has `finish()`, which waits for it, and may have `rollout()`, which drafts greedily without
    asking the host for each token (see models/mlx.py).

    Attributes:
        name: for messages.
        vocab_size: the width of the logits.
        context_length: the longest sequence, in tokens.
        stop_token_ids: tokens that end a text.
        tokenizer: None where the model comes without one.
    """

    name: str
    vocab_size: int
    context_length: int
    stop_token_ids: frozenset[int]
    tokenizer: Tokenizer | None

    def open(self, rows: int, capacity: int) -> Session:
        """A session of `rows` rows that hold up to `capacity` tokens each."""


class Ledger:
    """Which tokens every row holds: the book-keeping that all sessions share.

    It refuses what no cache could do, so that a runtime's own code only moves keys and values.
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
        """Write the tokens down as tentative, all rows or none."""
        given = parents if parents is not None else [None] * len(rows)
        if len(set(rows)) != len(rows) or not all(0 <= row < self.rows for row in rows):
            raise InputError(f"rows {list(rows)} must be distinct and below {self.rows}, the rows of this session")
        resolved = []
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
            chosen = [node - 1 for node in nodes] if above is None else list(above)
            if len(chosen) != len(new) or not all(
                LAST_KEPT <= parent < node for parent, node in zip(chosen, nodes, strict=True)
            ):
                raise InputError(f"parents {chosen} of row {row}: one earlier tentative token each, or {LAST_KEPT}")
            resolved.append(chosen)
        for row, new, chosen in zip(rows, tokens, resolved, strict=True):
            self._tentative[row].extend(new)
            self._parents[row].extend(chosen)

    def keep(self, row: int, path: Sequence[int]) -> None:
        above = LAST_KEPT
        for node in path:
            if not 0 <= node < len(self._tentative[row]) or self._parents[row][node] != above:
                raise InputError(f"path {list(path)} of row {row} does not lead from the last permanent token down")
            above = node
        self._kept[row].extend(self._tentative[row][node] for node in path)
        self._drop_tentative(row)

    def truncate(self, row: int, length: int) -> None:
        if not 0 <= length <= len(self._kept[row]):
            raise InputError(f"row {row} cannot be cut to {length} tokens: it holds {len(self._kept[row])}")
        del self._kept[row][length:]
        self._drop_tentative(row)

    def name_newest(self, row: int, tokens: Sequence[int]) -> None:
        """Write down which the newest tentative tokens are, where they were not known when they were fed."""
        first = len(self._tentative[row]) - len(tokens)
        self._tentative[row][first:] = tokens

    def ancestors(self, row: int, node: int) -> list[int]:
        """The tentative tokens on the path to `node`, itself included, the nearest first."""
        path = []
        while node != LAST_KEPT:
            path.append(node)
            node = self._parents[row][node]
        return path

    def context(self, row: int, node: int) -> list[int]:
        """All tokens that `node` follows, and its own."""
        path = reversed(self.ancestors(row, node))
        return self._kept[row] + [self._tentative[row][ancestor] for ancestor in path]

    def _drop_tentative(self, row: int) -> None:
        self._tentative[row].clear()
        self._parents[row].clear()


class LedgerSession:
    """What a session knows from its ledger alone."""

    def __init__(self, rows: int, capacity: int) -> None:
        self._ledger = Ledger(rows, capacity)

    @property
    def rows(self) -> int:
        return self._ledger.rows

    @property
    def capacity(self) -> int:
        return self._ledger.capacity

    def length(self, row: int) -> int:
        return self._ledger.length(row)

    def truncate(self, row: int, length: int) -> None:
        self._ledger.truncate(row, length)


def stop_token_ids(*candidates: Any) -> frozenset[int]:
    """The tokens of the first candidate that names any: an eos_token_id, several of them, or None."""
    stop = next((candidate for candidate in candidates if candidate is not None), None)
    if stop is None:
        return frozenset()
    return frozenset(int(token) for token in (stop if isinstance(stop, Collection) else [stop]))


def wanted_counts(tokens: Sequence[Sequence[int]], wanted: Sequence[int] | None) -> list[int]:
    """Of how many of its last tokens each row's logits are wanted."""
    return [len(new) for new in tokens] if wanted is None else list(wanted)


PREFILL_CHUNK = 512


def prefill(session: Session, row: int, tokens: Sequence[int]) -> list[int]:
    """Feed a long text chunk by chunk, so that memory for its activations stays bounded.

    Returns:
        The last chunk, not yet fed: its logits are wanted.
    """
    start = 0
    while len(tokens) - start > PREFILL_CHUNK:
        chunk = tokens[start : start + PREFILL_CHUNK]
        session.extend([row], [chunk], wanted=[0])
        session.keep(row, range(len(chunk)))
        start += PREFILL_CHUNK
    return list(tokens[start:])
