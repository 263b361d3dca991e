"""Models as a course on MLX writes them: `model(inputs, offset, cache)`, with caches that `rewind(n)`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from outrider.errors import ModelError, first_line
from outrider.runtimes.base import UNBOUNDED, Named, Traits
from outrider.runtimes.mlx.memory import free_device_bytes
from outrider.runtimes.replay import ReplaySession
from outrider.text import Tokenizer


class CourseModel(Named):
    """A model called with token ids [1, tokens], the number of tokens before them, and a cache for each layer.

    Args:
        model: makes its caches with `create_kv_cache()`. If it has no such method, each of its `num_hidden_layers`
            layers gets a cache of the course's kind: `update_and_fetch(key, value, mask_length, mask)` returns keys,
            values, their length and the mask.
        tokenizer: None for prompts of token ids.
        stop_token_ids: tokens that end a text.

    Raises:
        ModelError: the model cannot be called like this.
    """

    def __init__(
        self,
        model: Any,
        *,
        tokenizer: Tokenizer | None = None,
        name: str | None = None,
        stop_token_ids: frozenset[int] = frozenset(),
    ) -> None:
        self._model = model
        self.name = name if name is not None else type(model).__name__
        self.tokenizer = tokenizer
        self._keeps_logits = "logits_to_keep" in inspect.signature(model).parameters
        if not hasattr(model, "create_kv_cache") and not hasattr(model, "num_hidden_layers"):
            raise ModelError(
                f"model {self.name} takes a cache, and says neither how to make one nor how many layers it has: "
                "give it a method create_kv_cache(), or num_hidden_layers"
            )
        try:
            logits = self.logits([0], 0, self.new_cache(), 1)
            mx.eval(logits)  # with all lazy arrays of the model: MLX computes them in their own thread only
        except Exception as error:
            raise ModelError(
                f"model {self.name} cannot be called as model(inputs, offset, cache): {first_line(error)}"
            ) from error
        context_length = int(getattr(model, "max_seq_len", None) or UNBOUNDED)
        self.traits = Traits(int(logits.shape[-1]), context_length, stop_token_ids, reads_branches=True, crops=False)

    def free_bytes(self) -> int | None:
        return free_device_bytes()

    def new_cache(self) -> list[Any]:
        make = getattr(self._model, "create_kv_cache", None)
        return list(make()) if make is not None else [KeysAndValues() for _ in range(self._model.num_hidden_layers)]

    def logits(self, tokens: Sequence[int], offset: int, cache: list[Any], wanted: int) -> mx.array:
        """Logits [wanted, vocab] at each of the last `wanted` tokens."""
        inputs = mx.array([list(tokens)], dtype=mx.int32)
        settings = {"logits_to_keep": max(wanted, 1)} if self._keeps_logits else {}
        logits: mx.array = self._model(inputs, offset, cache, **settings)[0]  # [tokens, vocab]
        return logits[logits.shape[0] - wanted :]

    def open(self, rows: int, capacity: int) -> ReplaySession:
        return ReplaySession(lambda: CourseReader(self), rows, capacity, self.name, self.traits)


class CourseReader:
    """A text read by such a model, whose caches can be rewound."""

    exact = True
    stepwise = False

    def __init__(self, model: CourseModel) -> None:
        self._model = model
        self._cache: list[Any] | None = None
        self._length = 0

    def read(self, tokens: Sequence[int], wanted: int) -> mx.array:
        if self._cache is None:
            self._cache = self._model.new_cache()
        logits = self._model.logits(tokens, self._length, self._cache, max(wanted, 1))
        # Even where nothing is wanted: lazy keys and values would hold their whole graph in memory.
        mx.eval(logits)
        self._length += len(tokens)
        return logits[logits.shape[0] - wanted :]

    def back(self, length: int) -> int:
        if length == 0:
            self.close()
        elif length < self._length:
            assert self._cache is not None
            for layer in self._cache:
                layer.rewind(self._length - length)
            self._length = length
        return self._length

    def mark(self) -> None:
        """Nothing to do: the caches go back to any length."""

    def settle(self, length: int) -> None:
        """Nothing to do: there are no marks."""

    def close(self) -> None:
        for layer in self._cache or ():
            if hasattr(layer, "release"):  # a paged cache returns its pages to the pool
                layer.release()
        self._cache, self._length = None, 0


class KeysAndValues:
    """Keys and values of one layer, [1, heads, tokens, size] each, behind the interface of the course's caches."""

    def __init__(self) -> None:
        self._held: tuple[mx.array, mx.array] | None = None

    def update_and_fetch(
        self, key: mx.array, value: mx.array, mask_length: int | None = None, mask: mx.array | str | None = None
    ) -> tuple[mx.array, mx.array, int, mx.array | str | None]:
        if self._held is not None:
            key = mx.concatenate([self._held[0], key], axis=2)
            value = mx.concatenate([self._held[1], value], axis=2)
        self._held = key, value
        return key, value, key.shape[2], mask

    def rewind(self, n: int) -> None:
        assert self._held is not None
        keys, values = self._held
        left = keys.shape[2] - n
        self._held = keys[:, :, :left], values[:, :, :left]
