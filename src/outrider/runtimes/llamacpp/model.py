"""Models of llama.cpp: a GGUF file behind the Model and Session protocols.

llama.cpp keeps keys and values in cells; a cell belongs to one or more *sequences*, and a token sees the cells of its
own sequence before it. A row is a sequence. A tree needs one for each of its leaves, and a node belongs to the
sequences of all leaves below it, so that it is computed once and seen by those only.
"""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import llama_cpp
import numpy as np

from outrider.errors import InputError, ModelError
from outrider.maths.arrays import Array
from outrider.runtimes.base import LAST_KEPT, LedgerSession, Parents, Session, wanted_counts
from outrider.runtimes.host_memory import free_host_bytes
from outrider.runtimes.llamacpp.library import COMPLAINTS
from outrider.runtimes.llamacpp.tokenizer import LlamaTokenizer
from outrider.runtimes.replay import ReplaySession, Snapshots
from outrider.text import Tokenizer

TOKENS_OF_A_PASS = 512
MOST_SEQUENCES = 256  # that llama.cpp tells apart
LEAVES_OF_A_ROW = 16  # for which sequences are set aside
FEWEST_LEAVES = 64  # in all rows together
SNAPSHOTS_OF_A_ROW = 16  # of a recurrent state
CELLS_STEP = 256  # llama.cpp rounds up to it


class CacheType(NamedTuple):
    """A precision of keys and values: ggml's number for it, and the bytes of one number."""

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
    """How a model is run.

    Attributes:
        threads: of the CPU; None is as many as this process may use.
        cache_type: the precision of keys and values, of CACHE_TYPES.
    """

    threads: int | None = None
    cache_type: str = "float16"


class LlamaCppModel:
    """A GGUF model in llama.cpp.

    Args:
        pointer: of the model, from llama_model_load_from_file; it is freed with the last session.
        name: for messages.

    Raises:
        ModelError: the model is no decoder.
    """

    def __init__(self, pointer: int, name: str, settings: Settings = Settings()) -> None:
        self.weights = Weights(pointer)
        self.settings = settings
        self.name = name
        _refuse_unsupported(pointer, name)
        vocabulary = llama_cpp.llama_model_get_vocab(pointer)
        self.vocab_size = int(llama_cpp.llama_vocab_n_tokens(vocabulary))
        self.context_length = int(llama_cpp.llama_model_n_ctx_train(pointer))
        self.stop_token_ids = frozenset(
            token for token in range(self.vocab_size) if llama_cpp.llama_vocab_is_eog(vocabulary, token)
        )
        self.tokenizer: Tokenizer | None = None
        if llama_cpp.llama_vocab_type(vocabulary) != llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            template = llama_cpp.llama_model_chat_template(pointer, None)
            self.tokenizer = LlamaTokenizer(vocabulary, self.weights, None if template is None else template.decode())
        self._has_windows = llama_cpp.llama_model_n_swa(pointer) > 0
        self._recurs = llama_cpp.llama_model_is_recurrent(pointer) or llama_cpp.llama_model_is_hybrid(pointer)

    @property
    def bytes_per_token(self) -> int:
        pointer = self.weights.pointer
        size = llama_cpp.llama_model_n_embd(pointer) // llama_cpp.llama_model_n_head(pointer)
        numbers = 2 * llama_cpp.llama_model_n_layer(pointer) * llama_cpp.llama_model_n_head_kv(pointer) * size
        return int(numbers * CACHE_TYPES[self.settings.cache_type].bytes)

    def free_bytes(self) -> int | None:
        return free_host_bytes()

    def open(self, rows: int, capacity: int) -> Session:
        return self._open_replaying(rows, capacity) if self._recurs else self._open_sharing(rows, capacity)

    def _open_replaying(self, rows: int, capacity: int) -> ReplaySession:
        """For states that cannot be cut: copies of them are sequences."""
        sequences = min(SNAPSHOTS_OF_A_ROW * rows, MOST_SEQUENCES)
        # What is read again lies beside what was read before, until that is forgotten.
        texts = _Texts(_Context(self, 2 * rows * capacity, sequences), sequences)
        return ReplaySession(lambda: Snapshots(texts.new), rows, capacity, self.vocab_size)

    def _open_sharing(self, rows: int, capacity: int) -> LlamaCppSession:
        # A cell that has left its sequence's window may be overwritten, and after a rollback it would be needed again.
        # Cells that two sequences hold are left alone: every sequence of a windowed model has a twin.
        twins = 2 if self._has_windows else 1
        sequences = min(rows + max(FEWEST_LEAVES, LEAVES_OF_A_ROW * rows), MOST_SEQUENCES // twins)
        if sequences < rows:
            raise InputError(f"{rows} rows are more than llama.cpp tells apart: open {sequences} or fewer")
        context = _Context(self, rows * capacity, sequences * twins)
        return LlamaCppSession(context, rows, capacity, [sequences * twin for twin in range(twins)])


def context_parameters(settings: Settings, tokens: int) -> Any:
    """llama.cpp's settings of a context that holds so many tokens."""
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
    """Frees the model once nobody holds it: a context must not outlive it."""

    def __init__(self, pointer: int) -> None:
        self.pointer = pointer
        weakref.finalize(self, llama_cpp.llama_model_free, pointer)


def free_context(context: int, weights: Weights) -> None:
    llama_cpp.llama_free(context)


def available_threads() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refuse_unsupported(pointer: int, name: str) -> None:
    if llama_cpp.llama_model_has_encoder(pointer) or llama_cpp.llama_model_is_diffusion(pointer):
        raise ModelError(f"model {name} does not decode token by token: use a decoder-only causal language model")


@dataclass(slots=True)
class _Row:
    """The sequences of a row: each holds the permanent tokens and a path of tentative ones.

    Attributes:
        main: the one that is always there.
        ends: of each, the last tentative token, LAST_KEPT where there is none.
        mirrors: sequences at rest that share so many of the permanent tokens, and need only the rest when a tree
            branches again.
        depths: of each tentative token, how many stand on the path to it, itself included.
    """

    main: int
    ends: dict[int, int]
    mirrors: dict[int, int] = field(default_factory=dict)
    depths: list[int] = field(default_factory=list)

    def depth(self, node: int) -> int:
        return 0 if node == LAST_KEPT else self.depths[node]


class LlamaCppSession(LedgerSession):
    """A context of llama.cpp. The logits are its own memory: the next `extend` overwrites them."""

    def __init__(self, context: _Context, rows: int, capacity: int, sharing: Sequence[int]) -> None:
        """`sharing`: what is added to a sequence's number for itself and its twin."""
        super().__init__(rows, capacity)
        self._context = context
        self._sharing = sharing
        self._rows = [_Row(row, {row: LAST_KEPT}) for row in range(rows)]
        self._free = list(range(rows, context.sequences // len(sharing)))

    def extend(
        self,
        rows: Sequence[int],
        tokens: Sequence[Sequence[int]],
        parents: Sequence[Parents | None] | None = None,
        wanted: Sequence[int] | None = None,
    ) -> Array:
        self._ledger.extend(rows, tokens, parents)
        batch = self._context.batch
        batch.clear()  # of what a refusal may have left
        pieces: list[Array] = []
        for row, new, count in zip(rows, tokens, wanted_counts(tokens, wanted), strict=True):
            holders = self._assign(row, len(new))
            held, depths = self._ledger.length(row), self._rows[row].depths[-len(new) :]
            for place, token in enumerate(new):
                if batch.is_full:
                    pieces.append(self._context.decode().copy())
                batch.add(token, held + depths[place] - 1, holders[place], place >= len(new) - count)
        pieces.append(self._context.decode())
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

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
        state = self._rows[row]
        self._cut(state.main, length)
        self._settle(state, state.main, length)
        for sequence, shared in state.mirrors.items():
            if shared > length:
                self._cut(sequence, length)
                state.mirrors[sequence] = length

    def release(self, row: int) -> None:
        self.truncate(row, 0)
        state = self._rows[row]
        self._free += state.mirrors
        state.mirrors.clear()
        if not any(self._ledger.end(other) for other in range(self.rows)):
            self._context.wipe_if_spoilt()

    def _assign(self, row: int, count: int) -> list[list[int]]:
        """The sequences that each of the newest `count` tokens belongs to: one for every leaf below it."""
        state, parents = self._rows[row], self._ledger.parents(row)
        first = len(parents) - count
        for node in range(first, len(parents)):
            state.depths.append(1 + state.depth(parents[node]))
        if not first and state.depths[-1] == count:  # nothing but a chain
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
        """A sequence that ends with the tentative token `node`, from a call before this one."""
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
            f"the trees of {self.rows} rows have more leaves than llama.cpp tells apart: draft smaller trees, or open "
            "fewer rows"
        )

    def _holder(self, row: int, node: int) -> int:
        """A sequence whose path leads through `node`; the main one where the ledger will refuse the node."""
        state = self._rows[row]
        if len(state.ends) == 1 or node == LAST_KEPT:
            return state.main
        through = (s for s, end in state.ends.items() if node in self._ledger.ancestors(row, end))
        return next(through, state.main)

    def _settle(self, state: _Row, main: int, shared: int) -> None:
        """Forget what is tentative: `main` goes on, the other sequences rest with `shared` permanent tokens."""
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


class _Texts:
    """Texts in sequences of their own, which are given back when nobody holds the text any more."""

    def __init__(self, context: _Context, sequences: int) -> None:
        self.context = context
        self._free = list(range(sequences))

    def new(self) -> _Text:
        if not self._free:
            raise InputError(
                "there are more branches at once than llama.cpp has copies of the state for: draft chains, or trees "
                "with fewer branches"
            )
        sequence = self._free.pop()
        return _Text(self, sequence)

    def give_back(self, sequence: int) -> None:
        self.context.cut(sequence, 0)
        self._free.append(sequence)


class _Text:
    """What a model knows of one text: a State of replay.py."""

    def __init__(self, texts: _Texts, sequence: int) -> None:
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


class _Context:
    """A context of llama.cpp, and the batch that it is fed with."""

    def __init__(self, model: LlamaCppModel, tokens: int, sequences: int) -> None:
        parameters = context_parameters(model.settings, tokens)
        parameters.n_seq_max = sequences
        parameters.kv_unified = True  # only within one buffer can sequences share cells
        pointer = llama_cpp.llama_init_from_model(model.weights.pointer, parameters)
        if pointer is None:
            raise ModelError(f"model {model.name} cannot be opened for {tokens} tokens: {COMPLAINTS.take()}")
        self._pointer = pointer
        self._lifetime = _Lifetime(pointer, model.weights)
        self._seen = (0, 0, np.empty((0, 0), dtype=np.float32))
        self._memory = llama_cpp.llama_get_memory(pointer)
        self._name = model.name
        self._vocab_size = model.vocab_size
        self._spoilt = False  # a cell holds what is no number
        self.sequences = sequences
        self.batch = _Batch(llama_cpp.llama_n_batch(pointer), sequences)

    def copy(self, source: int, to: int, start: int, end: int) -> None:
        """Have a sequence share the cells of another one from position `start` up to `end`, -1 for all."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, to, start, end)

    def cut(self, sequence: int, length: int) -> None:
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise ModelError(f"model {self._name} cannot be rolled back to {length} tokens in llama.cpp: use another")

    def wipe_if_spoilt(self) -> None:
        """Called when no sequence holds anything."""
        if self._spoilt:
            # A masked cell counts nothing times, and nothing times NaN is NaN.
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
        # A token that is no number has no number among its logits.
        self._spoilt = self._spoilt or any(math.isnan(logits.item(row, 0)) for row in range(count))
        return logits

    def _logits(self, count: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        """llama.cpp's memory of the last pass, as an array."""
        address = _address_of_logits(self._pointer)
        if self._seen[:2] != (address, count):
            self._seen = address, count, np.asarray(_Memory(self._lifetime, address, (count, self._vocab_size)))
        return self._seen[2]


# llama-cpp-python's own function makes a pointer object of the address, which takes longer than finding it.
_address_of_logits = llama_cpp.llama_cpp._lib["llama_get_logits"]
_address_of_logits.argtypes = [ctypes.c_void_p]
_address_of_logits.restype = ctypes.c_void_p


class _Lifetime:
    """Frees a context of llama.cpp once neither its owner nor an array over its memory is left."""

    def __init__(self, pointer: int, weights: Weights) -> None:
        weakref.finalize(self, free_context, pointer, weights)


class _Memory:
    """Numbers of llama.cpp as NumPy takes them; whoever holds the array keeps the context from being freed.

    ctypes would make a new type for every shape, which takes longer than all the rest of a pass around llama.cpp.
    """

    def __init__(self, owner: object, address: int, shape: tuple[int, int]) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, "data": (address, True), "shape": shape, "typestr": "<f4"}


class _Batch:
    """The tokens of one pass, in the form that llama_decode takes."""

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
