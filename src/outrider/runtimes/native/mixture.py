"""The experts of a layer: what the files call their parts, and how they lie there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from outrider.errors import ModelError
from outrider.runtimes.native.description import Mixture
from outrider.runtimes.native.library import core
from outrider.runtimes.native.weights import Raw, Source

PARTS = ("gate", "up", "down")
AGAIN = "download the model again"
Weight = tuple[str, Raw, list[float]]  # its name, its numbers, and its bias
Pack = Callable[[str, Raw, list[float]], Any]  # a weight to a linear of the compiled library


@dataclass(frozen=True, slots=True)
class ExpertNames:
    """What the files call the parts of a layer with experts; `{}` is its number. Each part has the first name that is
    there. A bias has the name of its weight, with another end.

    Attributes:
        router: [experts, hidden].
        fused: gates above up projections, [experts, 2 inner, hidden].
        stacked: the parts of all experts in one, [experts, outputs, inputs].
        single: the parts of one expert, whose number is a second `{}`.
        shared: of the expert that every token uses.
        shared_gate: its weight's, [hidden] or [1, hidden].
    """

    router: tuple[str, ...]
    stacked: Mapping[str, tuple[str, ...]]
    fused: tuple[str, ...] = ()
    single: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    shared: Mapping[str, str] = field(default_factory=dict)
    shared_gate: str = ""


def take_experts(source: Source, names: ExpertNames, mixture: Mixture, hidden: int, layer: int, pack: Pack) -> Any:
    """The experts of a layer, packed.

    Args:
        pack: packs the weights of experts. A router stays in float32: what is rounded there changes who is asked.

    Raises:
        ModelError: a weight is missing or does not fit.
    """
    taker = _Taker(source, names, mixture, hidden, layer)
    library = core()
    router, bias = taker.router()
    try:
        packed = library.pack(router.data, router.kind, "f32", *router.shape, [], 1)
    except ValueError as error:
        raise ModelError(f"the router of layer {layer} cannot be used: {error}; download the model again") from error
    return library.Experts(
        library.Linear(packed, bias),
        *([pack(*each) for each in part] for part in taker.experts()),
        [pack(*part) for part in taker.shared()],
        mixture.inner,
        mixture.used,
        mixture.normalised,
    )


class _Taker:
    """The weights of one layer, as they lie in the files."""

    def __init__(self, source: Source, names: ExpertNames, mixture: Mixture, hidden: int, layer: int) -> None:
        self._source, self._names, self._mixture, self._hidden = source, names, mixture, hidden
        self._layer = layer

    def router(self) -> tuple[Raw, list[float]]:
        """Rows of all experts, and behind them that of the shared one, in float32; and their biases."""
        name, raw = self._first(self._names.router)
        rows, bias = self._rows(name, raw, self._mixture.count), self._bias(name)
        if self._mixture.shared:
            rows = np.concatenate([rows, self._rows(*self._first((self._names.shared_gate,)), 1)])
        return Raw("f32", rows.shape, np.ascontiguousarray(rows).view(np.uint8).reshape(-1)), bias

    def experts(self) -> list[Iterator[Weight]]:
        """Gates, up projections and down projections of all experts."""
        count, inner, hidden = self._mixture.count, self._mixture.inner, self._hidden
        fused = self._find(self._names.fused)
        if fused is None:
            return [self._stack(part) or self._singles(part) for part in PARTS]
        name, raw = fused
        self._require(name, raw, (count, 2 * inner, hidden))
        halves: list[Weight] = [
            (name, half, []) for half in Raw(raw.kind, (2 * count, inner, hidden), raw.data).unstacked()
        ]
        return [iter(halves[::2]), iter(halves[1::2]), self._stack("down") or self._singles("down")]

    def shared(self) -> list[Weight]:
        """Gate, up and down projection of the expert that every token uses; empty where there is none."""
        if not self._mixture.shared:
            return []
        found = [self._first((self._names.shared[part],)) for part in PARTS]
        for part, (name, raw) in zip(PARTS, found, strict=True):
            self._require(name, raw, self._shape(part, self._mixture.shared))
        return [(*each, []) for each in found]

    def _shape(self, part: str, inner: int) -> tuple[int, int]:
        return (self._hidden, inner) if part == "down" else (inner, self._hidden)

    def _stack(self, part: str) -> Iterator[Weight] | None:
        found = self._find(self._names.stacked.get(part, ()))
        if found is None:
            return None
        name, raw = found
        count, shape = self._mixture.count, self._shape(part, self._mixture.inner)
        self._require(name, raw, (count, *shape))
        bias, size = self._bias(name), shape[0]
        if bias and len(bias) != count * size:
            raise ModelError(f"the bias of {name} has {len(bias)} numbers and should have {count * size}: {AGAIN}")
        return ((name, each, bias[i * size : (i + 1) * size]) for i, each in enumerate(raw.unstacked()))

    def _singles(self, part: str) -> Iterator[Weight]:
        """One after the other, since they may be made while they are asked for."""
        names = self._names.single.get(part)
        if names is None:
            raise ModelError(f"the weights lack {self._names.stacked[part][0].format(self._layer)}: {AGAIN}")
        for expert in range(self._mixture.count):  # the first that is missing ends it, however many there should be
            name, raw = self._first(names, expert)
            self._require(name, raw, self._shape(part, self._mixture.inner))
            yield name, raw, self._bias(name)

    def _bias(self, weight: str) -> list[float]:
        raw = self._source.find(f"{weight.removesuffix('weight')}bias") if weight.endswith(".weight") else None
        return [] if raw is None else raw.floats()

    def _rows(self, name: str, raw: Raw, count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        if raw.shape not in ((count, self._hidden), *([(self._hidden,)] if count == 1 else [])):
            self._require(name, raw, (count, self._hidden))
        try:
            numbers = core().pack(raw.data, raw.kind, "f32", count, self._hidden, [], 1).numbers()
        except ValueError as error:
            raise ModelError(f"{name} cannot be used: {error}; {AGAIN}") from error
        return numbers  # type: ignore[no-any-return]

    def _require(self, name: str, raw: Raw, shape: tuple[int, ...]) -> None:
        if raw.shape != shape:
            raise ModelError(f"{name} has the shape {list(raw.shape)} and should have {list(shape)}: {AGAIN}")

    def _first(self, names: tuple[str, ...], *expert: int) -> tuple[str, Raw]:
        found = self._find(names, *expert)
        if found is None:
            raise ModelError(f"the weights lack {names[0].format(self._layer, *expert)}: {AGAIN}")
        return found

    def _find(self, names: tuple[str, ...], *expert: int) -> tuple[str, Raw] | None:
        """The first of the names that is there, and its weights."""
        for name in (name.format(self._layer, *expert) for name in names):
            raw = self._source.find(name)
            if raw is not None:
                return name, raw
        return None
