"""The native runtime behind the Model and Session protocols."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from outrider.maths.arrays import HostFloats32
from outrider.runtimes.base import Named, Pass, Scored, Top, Traits
from outrider.runtimes.host_memory import free_host_bytes
from outrider.runtimes.ledger import RaggedSession
from outrider.runtimes.native.description import Description
from outrider.runtimes.native.library import core
from outrider.text import Tokenizer

CACHE_BYTES = {"float32": 4, "float16": 2}


class NativeModel(Named):
    """A Llama-like model in the compiled library.

    Args:
        compiled: from building.py.
        cache_type: float32 or float16, of keys and values.
        embedding: reads it from the model's files.
    """

    def __init__(
        self,
        compiled: Any,
        description: Description,
        tokenizer: Tokenizer | None,
        name: str,
        cache_type: str,
        embedding: Callable[[], HostFloats32],
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.compiled = compiled
        self.cache_type = cache_type
        self._embedding = embedding
        numbers = 2 * description.layers * description.key_heads * description.head_size
        self.traits = Traits(
            description.vocabulary,
            description.context_length,
            description.stop,
            hidden_size=description.hidden,
            layers=description.layers,
            bytes_per_token=numbers * CACHE_BYTES[cache_type],
            reads_in_any_pieces=True,
        )

    def free_bytes(self) -> int | None:
        return free_host_bytes()

    def embedding(self) -> HostFloats32:
        return self._embedding()

    def open(self, rows: int, capacity: int) -> NativeSession:
        compiled = core().Session(self.compiled, rows, capacity, self.cache_type == "float16")
        return NativeSession(compiled, rows, capacity, self.name, self.traits)


class NativeCache:
    """A RowCache. A token reads the keys and values of its own ancestors alone, so that a released row need not be
    cleared: a NaN there reaches no other text."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    def move(self, row: int, sources: Sequence[int], target: int) -> None:
        self._compiled.move(row, list(sources), target)

    def adopt(self, row: int, source: int, length: int) -> None:
        if row != source:
            self._compiled.copy(row, source, length)

    def clear(self, row: int) -> None:
        pass


class NativeSession(RaggedSession[NativeCache]):
    """A ledger, and a cache in the compiled library. The logits are its memory: the next `extend` overwrites them."""

    def __init__(self, compiled: Any, rows: int, capacity: int, name: str, traits: Traits) -> None:
        super().__init__(rows, capacity, name, traits)
        self._compiled = compiled
        self._cache = NativeCache(compiled)

    def extend(self, work: Pass) -> Scored:
        self._append(work)
        ledger = self._ledger
        logits, hidden, top = self._compiled.forward(
            list(work.rows),
            [ledger.length(row) for row in work.rows],
            [ledger.parents(row) for row in work.rows],
            [list(new) for new in work.tokens],
            work.wanted_counts,
            list(work.features.hidden),
            work.features.top,
        )
        return Scored(logits, tuple(hidden), None if top is None else Top(*top))
