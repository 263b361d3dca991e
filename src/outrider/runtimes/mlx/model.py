"""Any causal language model of mlx-lm, on MLX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.cache import KVCache, RotatingKVCache, make_prompt_cache

from outrider.errors import ModelError, first_line
from outrider.runtimes.base import UNBOUNDED, Named, Pass, Scored, Session, Traits
from outrider.runtimes.layout import Plan
from outrider.runtimes.ledger import RaggedSession, scored
from outrider.runtimes.mlx.cache import MlxCache
from outrider.runtimes.mlx.memory import free_device_bytes
from outrider.runtimes.mlx.state import MlxState, bytes_per_token
from outrider.runtimes.replay import ReplaySession, Snapshots
from outrider.text import Tokenizer

SHORT = 16  # tokens: a chain up to this length is cheaper apart, in the pass of the tree after it
LONG = 64  # tokens: computing the logits of so many costs more than a second pass for those that are wanted
TIMES_ROUNDING = 10  # a difference beyond so many times the rounding has another cause than the order of sums
LEAST_ROUNDING = 1e-4  # of the largest logit; more in 16 bits
UNKNOWN = 0  # stands for a token that is known to the device only


class MlxModel(Named):
    """A model of mlx-lm behind the Model protocol. The model object is used as it is.

    Its rows share passes over an MlxCache if its code accepts one; a trial with a few tokens finds out. Otherwise, and
    where layers have a state that cannot be rolled back (Mamba, RWKV, hybrids), rows are read one by one over mlx-lm's
    own cache, by snapshot and replay.

    Args:
        module: for example from mlx_lm.load.
        tokenizer: None for prompts of token ids.
        name: for messages.
        stop_token_ids: tokens that end a text.

    Raises:
        ModelError: the model cannot be called as models of mlx-lm are.
    """

    def __init__(
        self,
        module: Any,
        *,
        tokenizer: Tokenizer | None = None,
        name: str | None = None,
        stop_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        self.module = module
        self.name = name if name is not None else str(getattr(module, "model_type", type(module).__name__))
        self.tokenizer = tokenizer
        caches = make_prompt_cache(module)
        self._windows = _windows(caches)
        try:
            logits = module(mx.array([[0]]), cache=caches)
            mx.eval(logits)  # with all lazy arrays of the module: MLX computes them in their own thread only
        except Exception as error:
            raise ModelError(
                f"model {self.name} cannot be called with a cache of mlx-lm: {first_line(error)}"
            ) from error
        self.traits = Traits(
            int(logits.shape[-1]),
            _context_length(getattr(module, "args", None)),
            stop_token_ids,
            asynchronous=True,
            bytes_per_token=bytes_per_token(caches),
        )
        self.shares_passes = self._shares_passes()
        shares = self.shares_passes
        self.traits = replace(self.traits, pads_rows=shares, reads_branches=not shares, crops=shares)

    def free_bytes(self) -> int | None:
        return free_device_bytes()

    def open(self, rows: int, capacity: int) -> Session:
        if self.shares_passes:
            return MlxSession(self, rows, capacity)
        return self._open_replaying(rows, capacity)

    def new_cache(self, rows: int) -> MlxCache:
        assert self._windows is not None
        return MlxCache(rows, self._windows)

    def _shares_passes(self) -> bool:
        """Whether the model's code accepts an MlxCache, and gives the logits that it gives with mlx-lm's own cache.

        The measure of rounding is how much mlx-lm's logits differ when the text is read in two pieces instead of one.
        """
        if self._windows is None:
            return False
        a, b, c, d = (token % self.traits.vocab_size for token in (1, 2, 3, 4))
        try:
            session = MlxSession(self, 2, 8)
            session.extend(Pass([0, 1], [[a, b, c], [a]], wanted=[0, 0]))
            session.keep(0, range(3))
            session.keep(1, [0])
            found = np.concatenate(
                [
                    _host(session.extend(Pass([0, 1], [[d], [b]])).logits),  # two rows, at 3 and 1
                    _host(
                        session.extend(Pass([1], [[a, c]], [[-1, 0]], [1])).logits
                    ),  # two nodes of a tree, at 1 and 2
                ]
            )
        except Exception:
            return False  # its code computes with the offset in a way that takes no array
        own = self._open_replaying(2, 8)
        logits = own.extend(Pass([0], [[a, b, c, d]])).logits
        at_once, least = _host(logits), max(LEAST_ROUNDING, float(mx.finfo(logits.dtype).eps))
        own.extend(Pass([1], [[a, b]]))
        in_pieces = _host(own.extend(Pass([1], [[c, d]])).logits)
        rounding = max(np.abs(in_pieces - at_once[2:]).max(), least * np.abs(at_once).max())
        return bool(np.abs(found - at_once[[3, 1, 2]]).max() <= TIMES_ROUNDING * rounding)

    def _open_replaying(self, rows: int, capacity: int) -> ReplaySession:
        return ReplaySession(lambda: Snapshots(lambda: MlxState(self.module)), rows, capacity, self.name, self.traits)


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one row feeds in a pass.

    Attributes:
        end: how many tokens the row holds after the pass.
        wanted: how many of the last tokens are scored.
    """

    row: int
    tokens: list[int]
    end: int
    wanted: int


@dataclass(frozen=True, slots=True)
class _Pass:
    """One call of the model.

    Attributes:
        apart: whether every token is a row of the batch by itself (see cache.py).
    """

    pieces: list[_Piece]
    apart: bool = False


class MlxSession(RaggedSession[MlxCache]):
    """A ragged KV cache and the model that fills it.

    Calls return before anything is computed.
    """

    def __init__(self, model: MlxModel, rows: int, capacity: int) -> None:
        self._model = model
        super().__init__(rows, capacity, model.name, model.traits)
        self._cache = model.new_cache(rows)

    def extend(self, work: Pass) -> Scored:
        self._append(work)
        found: dict[int, list[mx.array]] = {row: [] for row in work.rows}
        for one in self._passes(work.rows, work.tokens, work.wanted_counts):
            for piece, logits in zip(one.pieces, self._run(one), strict=True):
                found[piece.row].append(logits)
        whole = mx.concatenate([logits for row in work.rows for logits in found[row]])
        # Even an empty slice would make MLX compute all logits of the pass.
        mx.async_eval(*self._cache.arrays, *([whole] if len(whole) else []))  # type: ignore[no-untyped-call]
        return scored(work, whole, wait=self._finish)

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        # The host reads nothing before the end: it prepares a pass while the device computes the one before.
        logits = self.extend(Pass(rows, tokens, wanted=[1] * len(rows))).logits  # [rows, vocab]
        drafted = [_most_probable(logits, vocab_size)]
        for _ in range(count - 1):
            self._ledger.extend(rows, [[UNKNOWN]] * len(rows), None)
            one = _Pass([_Piece(row, [UNKNOWN], self._ledger.end(row), 1) for row in rows])
            logits = mx.concatenate(self._run(one, drafted[-1][:, None]))
            drafted.append(_most_probable(logits, vocab_size))
            mx.async_eval(drafted[-1], *self._cache.arrays)  # type: ignore[no-untyped-call]
        found: list[list[int]] = np.array(mx.stack(drafted, axis=1)).tolist()
        for row, known in zip(rows, found, strict=True):
            self._ledger.name_newest(row, known[:-1])
        return found

    def _finish(self) -> None:
        mx.eval(self._cache.arrays)

    def _passes(self, rows: Sequence[int], tokens: Sequence[Sequence[int]], wanted: Sequence[int]) -> list[_Pass]:
        """The calls of a pass: one for chains, and one for trees from their first branch on.

        A short chain before a tree goes into the tree's call. A long chain of which few tokens are scored gets a call
        of its own before, whose logits are never computed.
        """
        read, abreast, apart = _Pass([]), _Pass([]), _Pass([], apart=True)
        for row, new, count in zip(rows, tokens, wanted, strict=True):
            end = self._ledger.end(row)
            parents = self._ledger.parents(row)
            chain = next((node for node, parent in enumerate(parents) if parent != node - 1), len(parents))
            head = max(chain - (len(parents) - len(new)), 0)
            if head <= SHORT and head < len(new):
                head = 0
            tail = len(new) - head
            wanted_of_head = max(count - tail, 0)
            first = head - wanted_of_head if wanted_of_head and head - wanted_of_head > LONG else 0
            if first:
                read.pieces.append(_Piece(row, list(new[:first]), end - len(new) + first, 0))
            if head:
                abreast.pieces.append(_Piece(row, list(new[first:head]), end - tail, wanted_of_head))
            if tail:
                apart.pieces.append(_Piece(row, list(new[head:]), end, min(count, tail)))
        return [one for one in (read, abreast, apart) if one.pieces]

    def _run(self, one: _Pass, inputs: mx.array | None = None) -> list[mx.array]:
        """The logits of each piece, [wanted, vocab].

        Args:
            inputs: token ids [batch, width] that only the device knows; None takes those of the pieces.
        """
        pieces = one.pieces
        counts = [len(piece.tokens) for piece in pieces]
        plan = Plan.of(self._ledger, [piece.row for piece in pieces], counts, [piece.end for piece in pieces])
        self._cache.begin(plan, apart=one.apart)
        if one.apart:
            batch = [[token] for piece in pieces for token in piece.tokens]
            ends = list(accumulate(counts))
        else:
            # A row is padded with its own last token: a NaN in one text then stays in it.
            batch = [piece.tokens + piece.tokens[-1:] * (plan.width - len(piece.tokens)) for piece in pieces]
            ends = [index * plan.width + count for index, count in enumerate(counts)]
        ids = mx.array(batch) if inputs is None else inputs
        logits = self._model.module(ids, cache=self._cache.layers)  # [batch, width, vocab]
        flat = logits.reshape(-1, logits.shape[-1])
        return [flat[end - piece.wanted : end] for end, piece in zip(ends, pieces, strict=True)]


def _most_probable(logits: mx.array, vocab_size: int) -> mx.array:
    """Token ids [rows]."""
    return logits[:, :vocab_size].astype(mx.float32).argmax(axis=-1)


def _windows(caches: Sequence[Any]) -> list[int | None] | None:
    """The window of each layer; None if a layer holds anything but keys and values."""
    windows: list[int | None] = []
    for cache in caches:
        if type(cache) is KVCache:
            windows.append(None)
        elif type(cache) is RotatingKVCache and cache.keep == 0:
            windows.append(int(cache.max_size))
        else:
            return None
    return windows


def _context_length(arguments: Any) -> int:
    """The longest sequence of a model, by its own arguments; of a model that also takes pictures, that of its text
    model."""
    text = getattr(arguments, "text_config", None)
    if isinstance(text, dict) and text.get("max_position_embeddings"):
        return int(text["max_position_embeddings"])
    return int(getattr(arguments, "max_position_embeddings", None) or UNBOUNDED)


def _host(logits: mx.array) -> np.ndarray[Any, Any]:
    return np.array(logits.astype(mx.float32))
