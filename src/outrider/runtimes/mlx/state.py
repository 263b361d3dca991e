"""The state of a model of mlx-lm after a text, in mlx-lm's own caches."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import mlx.core as mx
from mlx_lm.models.cache import CacheList, KVCache, make_prompt_cache


class MlxState:
    """A text read by a model of mlx-lm."""

    def __init__(self, module: Any, caches: list[Any] | None = None) -> None:
        self._module = module
        self._caches: list[Any] = make_prompt_cache(module) if caches is None else caches

    def read(self, tokens: Sequence[int], wanted: int) -> mx.array:
        logits: mx.array = self._module(mx.array([list(tokens)]), cache=self._caches)[0, len(tokens) - wanted :]
        # The state too: a lazy state would hold its whole graph in memory.
        mx.eval([cache.state for cache in self._caches], logits if wanted else [])
        return logits

    def copy(self) -> Self:
        return type(self)(self._module, [_copy(cache) for cache in self._caches])


def _copy(cache: Any) -> Any:
    """A snapshot of a cache: it stays as it is while the other one reads more."""
    if type(cache) is KVCache:
        # Later tokens are written after those of the snapshot, which keeps its own length.
        return copy.copy(cache)
    if type(cache) is CacheList:
        return CacheList(*(_copy(part) for part in cache.caches))
    return copy.deepcopy(cache)  # MLX copies an array only when one of the two is written to


def bytes_per_token(caches: Sequence[Any]) -> int:
    """Bytes of keys and values of all layers per token, from caches that hold some."""
    total = 0
    for cache in caches:
        if type(cache) is CacheList:
            total += bytes_per_token(cache.caches)
        elif getattr(cache, "keys", None) is not None:
            total += sum(array.nbytes // array.shape[2] for array in (cache.keys, cache.values))
    return total
