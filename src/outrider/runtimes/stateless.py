"""Models without a KV cache: every pass computes the whole text. Correct, and slow.

`FunctionModel` makes a model of any function `tokens -> logits`; `StatelessSession` serves every model of this kind.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from outrider.errors import ModelError, first_line
from outrider.maths.arrays import Array, operations, stack
from outrider.runtimes.base import UNBOUNDED, Named, Pass, Scored, Traits
from outrider.runtimes.ledger import LedgerSession, scored, stacked
from outrider.text import Tokenizer, require_tokenizer
from outrider.values import listed, require_function, whole

ArrayMaker = Callable[[list[int]], Any]


class FunctionModel(Named):
    """A function of all tokens so far.

    Args:
        function: takes token ids [1, tokens] or [tokens] and returns logits [1, tokens, vocab] or [tokens, vocab] as an
            array of any library, or an object with such an attribute `logits`. It may return logits of the last token
            alone; then each draft token takes one call.
        make_array: turns a list of token ids into what the function takes. None tries integers of NumPy, PyTorch and
            MLX, as far as these are loaded, by calling the function with a single token 0.
        vocab_size: None asks the function.

    Raises:
        ModelError: the function takes none of these arrays, or its result is not logits.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        make_array: ArrayMaker | None = None,
        vocab_size: int | None = None,
        context_length: int = UNBOUNDED,
        stop_token_ids: frozenset[int] = frozenset(),
        tokenizer: Tokenizer | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name if name is not None else getattr(function, "__name__", type(function).__name__)
        self._function = function
        require_function("function", function)
        if make_array is not None:
            require_function("make_array", make_array)
        self._make_array = make_array if make_array is not None else _find_array_maker(function, self.name)
        require_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        width = int(self.last_logits([0], 1).shape[-1]) if vocab_size is None else whole("vocab_size", vocab_size, 1)
        stops = frozenset(listed("stop_token_ids", stop_token_ids, "token ids"))
        self.traits = Traits(width, whole("context_length", context_length, 2), stops)

    def free_bytes(self) -> int | None:
        return None  # it keeps no cache

    def last_logits(self, tokens: Sequence[int], count: int) -> Array:
        """Logits [count, vocab] at each of the last `count` tokens."""
        logits = self._call(tokens)
        if logits.shape[0] == len(tokens):
            return logits[len(tokens) - count :]
        if logits.shape[0] != 1:
            raise ModelError(
                f"model {self.name} returned logits for {logits.shape[0]} of {len(tokens)} tokens: return those of "
                "all tokens, or of the last one"
            )
        rows = [self._call(tokens[: len(tokens) - behind])[0] for behind in range(count - 1, 0, -1)]
        return stack([*rows, logits[0]])

    def _call(self, tokens: Sequence[int]) -> Array:
        result = self._function(self._make_array(list(tokens)))
        logits = getattr(result, "logits", result)
        try:
            if isinstance(logits, list):
                logits = np.asarray(logits)
            if isinstance(logits, np.ndarray):
                logits = logits.astype(np.float32, copy=False)
        except (ValueError, TypeError, OverflowError) as error:
            raise ModelError(f"model {self.name} returned no numbers as logits ({first_line(error)})") from error
        operations(logits)  # raises where it is no array
        if logits.ndim == 3:
            logits = logits[0]
        elif logits.ndim == 1:
            logits = logits[None]
        if logits.ndim != 2 or 0 in logits.shape:
            raise ModelError(
                f"model {self.name} returned logits of shape {tuple(logits.shape)}: return [tokens, vocab] or "
                "[1, tokens, vocab]"
            )
        return logits

    def open(self, rows: int, capacity: int) -> StatelessSession:
        return StatelessSession(self, rows, capacity)


def _find_array_maker(function: Callable[[Any], Any], name: str) -> ArrayMaker:
    """The first kind of array that the function takes."""
    refusals: dict[str, list[Exception]] = {}
    for maker in _array_makers(function):
        try:
            function(maker([0]))
        except Exception as error:
            refusals.setdefault(f"{type(error).__name__}: {first_line(error)}", []).append(error)
        else:
            return maker
    said = sorted(refusals, key=lambda text: -len(refusals[text]))
    cause = refusals[said[0]][0]  # its traceback ends in the caller's own code
    if len(said) == 1:
        raise ModelError(
            f"model {name} fails when it is called with token ids, whatever array holds them: {said[0]}"
        ) from cause
    raise ModelError(
        f"model {name} takes no array of token ids that was tried ({'; '.join(said)}): "
        "wrap it, outrider.FunctionModel(function, make_array=...)"
    ) from cause


def _array_makers(function: Callable[[Any], Any]) -> list[ArrayMaker]:
    makers: list[ArrayMaker] = []
    if "torch" in sys.modules:
        makers.append(sys.modules["torch"].tensor)
    if "mlx.core" in sys.modules:
        makers.append(sys.modules["mlx.core"].array)
    libraries = {base.__module__.split(".")[0] for base in type(function).__mro__}
    if not libraries & {"torch", "mlx"}:
        makers.insert(0, np.array)  # a layer of a library is not asked to take another's arrays
    return [shaped for maker in makers for shaped in (_one_row(maker), maker)]


def _one_row(maker: Callable[[Any], Any]) -> ArrayMaker:
    return lambda tokens: maker([tokens])


class StatelessModel(Protocol):
    """What StatelessSession asks of a model."""

    name: str
    traits: Traits

    def last_logits(self, tokens: Sequence[int], count: int) -> Array:
        """Logits [count, vocab] at each of the last `count` tokens."""


class StatelessSession(LedgerSession):
    """Holds tokens, no keys and values; a tree is computed path by path."""

    def __init__(self, model: StatelessModel, rows: int, capacity: int) -> None:
        self._model = model
        super().__init__(rows, capacity, model.name, model.traits)

    def extend(self, work: Pass) -> Scored:
        self._append(work)
        logits: list[Array] = []
        for row, count in zip(work.rows, work.wanted_counts, strict=True):
            above = self._ledger.parents(row)
            nodes = range(len(above) - count, len(above))
            if above == list(range(-1, len(above) - 1)):
                if count:
                    rows_of_chain = self._model.last_logits(self._ledger.context(row, len(above) - 1), count)
                    logits.extend([rows_of_chain[i] for i in range(count)])
            else:
                logits.extend([self._model.last_logits(self._ledger.context(row, node), 1)[0] for node in nodes])
        return scored(work, stacked(logits, self._model.traits.vocab_size))

    def keep(self, row: int, path: Sequence[int]) -> None:
        self._ledger.keep(row, path)

    def adopt(self, row: int, source: int, length: int) -> None:
        self._ledger.adopt(row, source, length)

    def release(self, row: int) -> None:
        self._ledger.truncate(row, 0)
