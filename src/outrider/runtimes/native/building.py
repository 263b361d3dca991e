"""From a description and weights to a model of the compiled library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from outrider.errors import ModelError
from outrider.runtimes.native.description import Description
from outrider.runtimes.native.library import core, instruction_set
from outrider.runtimes.native.mixture import PARTS, ExpertNames, take_experts
from outrider.runtimes.native.weights import MXFP4, Raw, Source

SAME = "same"  # the numbers of the file
QUANTISED = ("q8_0", "q4_0")
NORMS = ("attention_norm", "mlp_norm", "attention_post_norm", "mlp_post_norm", "query_norm", "key_norm")
LINEARS = ("query", "key", "value", "output", "gate", "up", "down")


@dataclass(frozen=True, slots=True)
class Names:
    """What the files call the parts.

    Attributes:
        parts: of a layer; `{}` is its number. Norms that are not named are not there.
        fused: parts that stand in one weight, one above the other, by its name.
        norms_from_1: whether norms stand in the file less 1.
        permuted: whether the rows of queries and keys stand in pairs (as in GGUF files of Llama) and not in halves.
        experts: of the layers that have some.
        sinks: scores of each query head that add no value; empty where there are none.
        biased: the parts whose biases are read; others transformers leaves out.
    """

    embedding: str
    norm: str
    head: str
    parts: Mapping[str, str]
    permuted: bool = False
    experts: ExpertNames | None = None
    norms_from_1: bool = False
    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    sinks: str = ""
    biased: tuple[str, ...] = LINEARS


class Builder:
    """Takes weights by name and packs them.

    Args:
        target: the kind of packed weights, SAME or a kind to convert to.
        outer: the same for embedding and head.
        threads: for packing and for the model.
        report: called with how many layers are packed, and how many there are.

    Raises:
        ModelError: a weight is missing or does not fit.
    """

    def __init__(
        self,
        description: Description,
        source: Source,
        names: Names,
        target: str,
        outer: str,
        threads: int,
        report: Callable[[int, int], None],
    ) -> None:
        self._description, self._source, self._names = description, source, names
        self._target, self._outer, self._threads = target, outer, threads
        self._report = report
        self._core = core()

    def model(self) -> Any:
        d, library = self._description, self._core
        shape = library.Shape()
        shape.hidden, shape.heads, shape.key_heads, shape.head_size = d.hidden, d.heads, d.key_heads, d.head_size
        shape.inner, shape.vocabulary, shape.epsilon = d.inner, d.vocabulary, d.epsilon
        shape.rotations = [library.Rotation(rotary.frequencies.tolist(), rotary.scale) for rotary in d.rotaries]
        shape.activation = getattr(library.Activation, d.activation)
        shape.embedding_scale, shape.residual_scale = d.embedding_scale, d.residual_scale
        shape.attention_scale, shape.logit_divisor = d.attention_scale or 0.0, d.logit_divisor
        shape.attention_cap, shape.logit_cap = d.attention_cap, d.logit_cap
        shape.query_slope, shape.query_step, shape.norms_last = d.query_slope, d.query_step, d.norms_last
        layers = []
        for number in range(d.layers):
            layers.append(self._layer(number))
            self._source.let_go()
            self._report(number + 1, d.layers)
        embedding = self._matrix(self._names.embedding, self._outer)
        head = embedding if d.tied and not self._has_own_head() else self._matrix(self._names.head, self._outer)
        self._source.let_go()
        norm, chosen = self._norm(self._names.norm), instruction_set()
        try:
            return library.Model(shape, layers, norm, embedding, head, chosen, self._threads)
        except ValueError as error:
            raise ModelError(f"the weights do not fit together: {error}; download the model again") from error

    def embedding(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The embedding as it stands in the file, [vocabulary, hidden size]."""
        found: np.ndarray[Any, np.dtype[np.float32]] = self._matrix(self._names.embedding, SAME).numbers()
        self._source.let_go()
        return found

    def _has_own_head(self) -> bool:
        """Whether there is a head that differs from the embedding: transformers reads it, tied or not."""
        head, embedding = self._source.find(self._names.head), self._take(self._names.embedding)
        return head is not None and not (head.kind == embedding.kind and np.array_equal(head.data, embedding.data))

    def _layer(self, number: int) -> Any:
        layer, parts = self._core.Layer(), self._names.parts
        for part in NORMS:
            if part in parts:
                setattr(layer, part, self._norm(f"{parts[part]}.weight".format(number)))
        if self._names.sinks:
            layer.sinks = self._take(self._names.sinks.format(number)).floats()
        mixture = self._description.mixture
        if mixture is not None and mixture.layers[number] and self._names.experts is not None:
            hidden = self._description.hidden
            layer.experts = take_experts(self._source, self._names.experts, mixture, hidden, number, self._linear)
        for part in LINEARS:
            if layer.experts is not None and part in PARTS:
                continue
            setattr(layer, part, self._linear_of(part, number))
        layer.window, layer.rotation = self._description.windows[number], self._description.rotations[number]
        return layer

    def _linear_of(self, part: str, number: int) -> Any:
        fused = next(((name, parts) for name, parts in self._names.fused.items() if part in parts), None)
        name = (self._names.parts[part] if fused is None else fused[0]).format(number)
        bias = self._source.find(f"{name}.bias") if part in self._names.biased else None
        raw = self._take(f"{name}.weight")
        numbers = [] if bias is None else bias.floats()
        if fused is not None:
            first, last, total = self._rows(part, fused[1])
            if raw.shape[:1] != (total,) or len(numbers) not in (0, total):
                raise ModelError(f"{name} has the shape {list(raw.shape)}: {total} rows are needed")
            size = len(raw.data) // total
            raw = Raw(raw.kind, (last - first, *raw.shape[1:]), raw.data[first * size : last * size])
            numbers = numbers[first:last]
        order = self._order(part)
        if order and numbers:
            numbers = [numbers[i] for i in order]
        return self._core.Linear(self._packed(f"{name}.weight", raw, self._target, order), numbers)

    def _rows(self, part: str, parts: Sequence[str]) -> tuple[int, int, int]:
        """The rows of a part among those that stand above one another: the first, the next part's, and all."""
        d = self._description
        queries, keys = d.heads * d.head_size, d.key_heads * d.head_size
        sizes = {"query": queries, "key": keys, "value": keys, "gate": d.inner, "up": d.inner}
        first = sum(sizes[each] for each in parts[: parts.index(part)])
        return first, first + sizes[part], sum(sizes[each] for each in parts)

    def _order(self, part: str) -> list[int]:
        """Rows of queries and keys that stand in pairs (0, half, 1, half + 1, ...), as far as they are turned, put into
        halves."""
        if part not in ("query", "key") or not self._names.permuted:
            return []
        d = self._description
        heads = d.heads if part == "query" else d.key_heads
        rows, turned = np.arange(heads * d.head_size).reshape(heads, d.head_size), 2 * len(d.rotaries[0].frequencies)
        rows[:, :turned] = rows[:, :turned].reshape(heads, turned // 2, 2).transpose(0, 2, 1).reshape(heads, turned)
        return rows.reshape(-1).tolist()

    def _norm(self, name: str) -> list[float]:
        found = self._take(name).floats()
        return [1.0 + each for each in found] if self._names.norms_from_1 else found

    def _take(self, name: str) -> Raw:
        raw = self._source.find(name)
        if raw is None:
            raise ModelError(f"the weights lack {name}: download the model again")
        return raw

    def _matrix(self, name: str, target: str, order: list[int] | None = None) -> Any:
        return self._packed(name, self._take(name), target, order)

    def _linear(self, name: str, raw: Raw, bias: list[float]) -> Any:
        return self._core.Linear(self._packed(name, raw, self._target), bias)

    def _packed(self, name: str, raw: Raw, target: str, order: list[int] | None = None) -> Any:
        if len(raw.shape) != 2:
            raise ModelError(f"{name} has the shape {list(raw.shape)}: a matrix is needed")
        try:
            return self._core.pack(
                raw.data, raw.kind, packed_as(raw.kind, target), *raw.shape, order or [], self._threads
            )
        except ValueError as error:
            raise ModelError(f"{name} cannot be used: {error}; download the model again") from error


def packed_as(kind: str, target: str) -> str:
    """The kind to pack weights as: the numbers of MXFP4 are smaller than those of 8 bits, and would be rounded."""
    return SAME if kind == MXFP4 and target in QUANTISED else target
