"""A draft head in the compiled library: in 4 bits, beside targets of the native runtime. PyTorch is not needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from outrider.drafters.heads.config import HeadConfig
from outrider.drafters.heads.names import EMBEDDING, LAYER, OLDER_LAYER, TO_TARGET
from outrider.drafters.heads.native_entries import NativeEntries
from outrider.errors import ModelError
from outrider.maths.arrays import Array, HostFloats32, HostInts, to_numpy
from outrider.runtimes.files.folder import weight_files
from outrider.runtimes.native.library import core, instruction_set
from outrider.runtimes.native.model import NativeModel
from outrider.runtimes.native.weights import Raw, SafetensorsSource

# Kinds of weights, by the dtype that is asked for. What a head takes is mostly the reading of its weights, which the
# target's have driven out of the caches; a little is lost of what it foresees (docs/heads.md).
KINDS = {"auto": "q4_0", "q4_0": "q4_0", "q8_0": "q8_0", "float32": "f32", "bfloat16": "bf16"}
ENTRY_BYTES = 2  # of a number in the cache


def computes(folder: Path, dtype: str) -> bool:
    """Whether the compiled library computes the head of a folder."""
    files = weight_files(folder)
    return dtype in KINDS and bool(files) and not any(b"_scale" in _beginning(file) for file in files)


def _beginning(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(1 << 16)


class NativeHead:
    """A HeadNetwork in the compiled library.

    Args:
        target: whose embedding is used where the head has none of its own.
        dtype: one of KINDS; auto is 4 bits.

    Raises:
        ModelError: weights are missing or do not fit.
    """

    def __init__(self, folder: Path, config: HeadConfig, target: NativeModel, dtype: str = "auto") -> None:
        self._source = SafetensorsSource(weight_files(folder))
        self._where = str(folder)
        self._kind, self._threads = KINDS[dtype], target.compiled.threads
        self.layers = config.layers
        self.ids = self._ids(folder, config)
        if int(self.ids.max()) >= target.traits.vocab_size:
            raise ModelError(
                f"head {folder} is for {config.vocab_size} tokens and the target has {target.traits.vocab_size}: "
                "another's"
            )
        self.bytes_per_entry = 2 * config.key_heads * config.head_size * ENTRY_BYTES
        try:
            self.compiled = core().Head(self._parts(config, target), instruction_set(), self._threads)
        except ValueError as error:
            raise ModelError(f"the weights of head {folder} do not fit together: {error}; download it again") from error

    def open(self, rows: int, capacity: int) -> NativeEntries:
        return NativeEntries(core().HeadSession(self.compiled, rows, capacity), rows, capacity)

    def gathered(self, hidden: Sequence[Array]) -> Array:
        return np.concatenate([to_numpy(layer) for layer in hidden], axis=1, dtype=np.float32)

    def read(self, hidden: Array) -> Array:
        return hidden  # `NativeEntries.read` goes on from there

    def passed_on(self, made: Array) -> Array:
        return self.compiled.passed_on(made)

    def logits(self, made: Array) -> Array:
        return self.compiled.logits(made)

    def likely(self, made: Array, count: int) -> tuple[HostInts, HostFloats32]:
        places, probabilities = self.compiled.likely(made, min(count, len(self.ids)))
        return places, probabilities

    def _parts(self, config: HeadConfig, target: NativeModel) -> Any:
        library = core()
        parts, shape, layer = library.HeadParts(), library.Shape(), library.Layer()
        shape.hidden, shape.heads, shape.key_heads = config.hidden_size, config.heads, config.key_heads
        shape.head_size, shape.inner, shape.vocabulary = config.head_size, config.inner, config.draft_vocab_size
        shape.epsilon = config.epsilon
        shape.rotations = [library.Rotation(config.rotary.frequencies.tolist(), config.rotary.scale)]
        for part, name in (("query", "q"), ("key", "k"), ("value", "v"), ("output", "o")):
            setattr(layer, part, self._linear(f"{LAYER}.self_attn.{name}_proj"))
        for part in ("gate", "up", "down"):
            setattr(layer, part, self._linear(f"{LAYER}.mlp.{part}_proj"))
        layer.attention_norm = self._norm(f"{LAYER}.hidden_norm")
        layer.mlp_norm = self._norm(f"{LAYER}.post_attention_layernorm")
        if config.normed_heads:
            layer.query_norm = self._norm(f"{LAYER}.self_attn.q_norm")
            layer.key_norm = self._norm(f"{LAYER}.self_attn.k_norm")
        parts.shape, parts.layer = shape, layer
        parts.token_norm, parts.norm = self._norm(f"{LAYER}.input_layernorm"), self._norm("norm")
        if config.norm_before_fc:
            parts.read_norms = [self._norm("input_norm")]
        if config.fc_norm:
            parts.read_norms = [self._norm(f"fc_norm.{number}") for number in range(config.read_layers)]
        parts.norm_before_residual, parts.norm_output = config.norm_before_residual, config.norm_output
        own = self._find(EMBEDDING)
        embedding = target.compiled.embedding if own is None else self._packed(own, EMBEDDING, "same")
        if embedding.inputs != config.hidden_size or embedding.outputs < target.traits.vocab_size:
            raise ModelError(
                f"head {self._where} needs an embedding of {config.hidden_size} numbers and the target's has "
                f"{embedding.inputs}: it is of another target"
            )
        parts.set_matrices(embedding, self._matrix("fc"), self._matrix("lm_head"))
        return parts

    def _ids(self, folder: Path, config: HeadConfig) -> HostInts:
        offsets = self._source.integers(TO_TARGET)
        count = config.draft_vocab_size
        if offsets is None:
            if count != config.vocab_size:
                raise ModelError(f"head {folder} drafts {count} of {config.vocab_size} tokens and has no d2t: which?")
            return np.arange(count)
        ids: HostInts = np.arange(len(offsets)) + offsets
        if len(ids) != count or len(set(ids.tolist())) != count or ids.min() < 0 or ids.max() >= config.vocab_size:
            raise ModelError(
                f"d2t of head {folder} names {len(ids)} tokens: it must be {count} different ones below "
                f"{config.vocab_size}"
            )
        return ids

    def _find(self, name: str) -> Raw | None:
        for each in (
            name,
            f"model.{name}",
            name.replace(LAYER, OLDER_LAYER),
            f"model.{name}".replace(LAYER, OLDER_LAYER),
        ):
            found = self._source.find(each)
            if found is not None:
                return found
        return None

    def _take(self, name: str) -> Raw:
        found = self._find(name)
        if found is None:
            raise ModelError(f"the weights of head {self._where} lack {name}: download them again")
        return found

    def _norm(self, name: str) -> list[float]:
        return self._take(f"{name}.weight").floats()

    def _linear(self, name: str) -> Any:
        return core().Linear(self._matrix(name), [])

    def _matrix(self, name: str) -> Any:
        return self._packed(self._take(f"{name}.weight"), name, self._kind)

    def _packed(self, raw: Raw, name: str, kind: str) -> Any:
        if len(raw.shape) != 2:
            raise ModelError(f"{name} of head {self._where} has the shape {list(raw.shape)}: a matrix is needed")
        return core().pack(raw.data, raw.kind, kind, *raw.shape, [], self._threads)
