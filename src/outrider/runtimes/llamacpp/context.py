"""A context of llama.cpp: its cells, its sequences and its input batch."""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import llama_cpp
import numpy as np

from outrider.errors import ModelError
from outrider.maths.arrays import Array
from outrider.runtimes.llamacpp.library import COMPLAINTS

TOKENS_OF_A_PASS = 512
CELLS_STEP = 256  # llama.cpp rounds up to it


class CacheType(NamedTuple):
    """A precision of keys and values: ggml's code for it, and the bytes per number."""

    number: int
    bytes: float


CACHE_TYPES = {
    "float32": CacheType(llama_cpp.GGML_TYPE_F32, 4),
    "float16": CacheType(llama_cpp.GGML_TYPE_F16, 2),
    "q8_0": CacheType(llama_cpp.GGML_TYPE_Q8_0, 34 / 32),
    "q4_0": CacheType(llama_cpp.GGML_TYPE_Q4_0, 18 / 32),
}

EXACT_CACHE = "float32"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run a model.

    Attributes:
        threads: CPU threads; None is as many as this process may use.
        cache_type: the precision of keys and values, of CACHE_TYPES.
    """

    threads: int | None = None
    cache_type: str = "float16"


def context_parameters(settings: Settings, tokens: int) -> Any:
    """llama.cpp's settings for a context that holds `tokens` tokens."""
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = CELLS_STEP * -(-tokens // CELLS_STEP)
    parameters.n_batch = parameters.n_ubatch = min(TOKENS_OF_A_PASS, parameters.n_ctx)
    parameters.swa_full = True
    parameters.no_perf = True
    parameters.n_threads = parameters.n_threads_batch = settings.threads or available_threads()
    parameters.type_k = parameters.type_v = CACHE_TYPES[settings.cache_type].number
    if settings.cache_type == EXACT_CACHE:
        # llama.cpp's flash attention would round keys and values to float16.
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    return parameters


class Weights:
    """Owns a model of llama.cpp and frees it with its last holder: contexts hold it, since none may outlive it."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        weakref.finalize(self, llama_cpp.llama_model_free, pointer)


def free_context(context: int, weights: Weights) -> None:
    llama_cpp.llama_free(context)


def available_threads() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Context:
    """A context of llama.cpp and its input batch.

    Args:
        name: of the model, for messages.
        tokens: how many it holds, in all sequences together.
    """

    def __init__(
        self, weights: Weights, settings: Settings, name: str, vocab_size: int, tokens: int, sequences: int
    ) -> None:
        parameters = context_parameters(settings, tokens)
        parameters.n_seq_max = sequences
        parameters.kv_unified = True  # sequences share cells within one buffer only
        pointer = llama_cpp.llama_init_from_model(weights.pointer, parameters)
        if pointer is None:
            raise ModelError(f"model {name} cannot be opened for {tokens} tokens: {COMPLAINTS.take()}")
        self._pointer = pointer
        self._lifetime = _Lifetime(pointer, weights)
        self._seen = (0, 0, np.empty((0, 0), dtype=np.float32))
        self._memory = llama_cpp.llama_get_memory(pointer)
        self._name = name
        self._vocab_size = vocab_size
        self._spoilt = False  # whether a cell holds a NaN
        self.sequences = sequences
        self.batch = _Batch(llama_cpp.llama_n_batch(pointer), sequences)

    def copy(self, source: int, to: int, start: int, end: int) -> None:
        """Make sequence `to` share the cells of `source` from position `start` up to `end`; -1 is the end."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, to, start, end)

    def cut(self, sequence: int, length: int) -> None:
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise ModelError(f"model {self._name} cannot be rolled back to {length} tokens in llama.cpp: use another")

    def wipe_if_spoilt(self) -> None:
        """Clear the memory if it holds a NaN; call it when no sequence holds anything."""
        if self._spoilt:
            # A masked cell has weight 0, and 0 * NaN is NaN.
            llama_cpp.llama_memory_clear(self._memory, True)
            self._spoilt = False

    def decode(self) -> Array:
        """Run the batch: logits [wanted, vocab]."""
        count = self.batch.outputs
        status = llama_cpp.llama_decode(self._pointer, self.batch.struct)
        self.batch.clear()
        if status:
            why = "there is no room left in its memory" if status == 1 else COMPLAINTS.take()
            raise ModelError(f"model {self._name} failed: {why}")
        if not count:
            return np.empty((0, self._vocab_size), dtype=np.float32)
        logits = self._logits(count)
        # A token with NaNs in its state has NaN in all of its logits: one is enough to look at.
        self._spoilt = self._spoilt or any(math.isnan(logits.item(row, 0)) for row in range(count))
        return logits

    def _logits(self, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """The logits of the last pass, as an array over llama.cpp's own memory."""
        address = _address_of_logits(self._pointer)
        if self._seen[:2] != (address, count):
            self._seen = address, count, np.asarray(_Memory(self._lifetime, address, (count, self._vocab_size)))
        return self._seen[2]


# llama-cpp-python's own function wraps the address in a pointer object, which takes longer than the call.
_address_of_logits = llama_cpp.llama_cpp._lib["llama_get_logits"]
_address_of_logits.argtypes = [ctypes.c_void_p]
_address_of_logits.restype = ctypes.c_void_p


class _Lifetime:
    """Frees a context of llama.cpp with its last holder: the Context, or an array over its memory."""

    def __init__(self, pointer: int, weights: Weights) -> None:
        weakref.finalize(self, free_context, pointer, weights)


class _Memory:
    """Memory of llama.cpp behind NumPy's array interface; an array over it keeps the context alive.

    ctypes makes a new type for every shape, which takes longer than all other Python code of a pass.
    """

    def __init__(self, owner: object, address: int, shape: tuple[int, int]) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "data": (address, True), "shape": shape, "typestr": "<f4"}


class _Batch:
    """The tokens of one pass, as llama_decode takes them."""

    def __init__(self, tokens: int, sequences: int) -> None:
        self._size = tokens
        self._width = sequences
        self._tokens = (ctypes.c_int32 * tokens)()
        self._positions = (ctypes.c_int32 * tokens)()
        self._counts = (ctypes.c_int32 * tokens)()
        self._sequences = (ctypes.c_int32 * (tokens * sequences))()
        self._wanted = (ctypes.c_int8 * tokens)()
        row = ctypes.sizeof(ctypes.c_int32) * sequences
        start = ctypes.addressof(self._sequences)
        self._places = (ctypes.POINTER(ctypes.c_int32) * tokens)(
            *(ctypes.cast(start + row * token, ctypes.POINTER(ctypes.c_int32)) for token in range(tokens))
        )
        self.outputs = 0
        self.struct = llama_cpp.llama_batch(
            0, self._tokens, None, self._positions, self._counts, self._places, self._wanted
        )

    @property
    def is_full(self) -> bool:
        return bool(self.struct.n_tokens == self._size)

    def add(self, token: int, position: int, sequences: Sequence[int], wanted: bool) -> None:
        place = self.struct.n_tokens
        self._tokens[place] = token
        self._positions[place] = position
        self._counts[place] = len(sequences)
        for number, sequence in enumerate(sequences, start=place * self._width):
            self._sequences[number] = sequence
        self._wanted[place] = wanted
        self.outputs += wanted
        self.struct.n_tokens = place + 1

    def clear(self) -> None:
        self.struct.n_tokens = self.outputs = 0
