"""Successors as arrays: how they are saved, and looked up where they were loaded. They no longer change."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from outrider.drafters.recycling.successors import KEPT, Known, Successors
from outrider.errors import InputError

STEPS = 255  # probabilities are kept as whole numbers from 1 to STEPS: the square roots, so that small ones differ
LEAST_KEPT = 0.003  # less likely successors are left out
LARGEST_COUNT = 255

NAMES = ("keys", "counts", "sizes", "tokens", "shares")


class Frozen:
    """The successors of contexts, sorted by the contexts' keys.

    Args:
        keys: uint64 [contexts], rising.
        counts: uint8 [contexts], how often the target was there.
        sizes: uint8 [contexts], how many successors each has.
        tokens: [all successors], context by context, likeliest first.
        shares: uint8 [all successors], 255 times the square roots of the probabilities.
    """

    def __init__(
        self, keys: np.ndarray, counts: np.ndarray, sizes: np.ndarray, tokens: np.ndarray, shares: np.ndarray
    ) -> None:
        # Plain arrays: one element of them is read four times faster than one of NumPy.
        self._keys = array("Q", keys.astype(np.uint64).tobytes())
        self._counts = bytes(counts)
        self._starts = array("I", np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.uint32).tobytes())
        self._tokens = array("I", tokens.astype(np.uint32).tobytes())
        self._shares = bytes(shares)
        self._compiled: Any = None

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, key: int) -> Known | None:
        """What is known of a context; None if nothing is."""
        place = bisect_left(self._keys, key)
        if place == len(self._keys) or self._keys[place] != key:
            return None
        return self._at(place)

    def compiled(self, library: Any) -> Any:
        """The same in the compiled library."""
        if self._compiled is None:
            self._compiled = library.Frozen(
                np.frombuffer(self._keys, dtype=np.uint64),
                np.frombuffer(self._counts, dtype=np.uint8),
                np.frombuffer(self._starts, dtype=np.uint32),
                np.frombuffer(self._tokens, dtype=np.uint32),
                np.frombuffer(self._shares, dtype=np.uint8),
            )
        return self._compiled

    def arrays(self) -> dict[str, np.ndarray]:
        """The arguments that it was made from, by name."""
        tokens = np.frombuffer(self._tokens, dtype=np.uint32)
        narrow = not len(tokens) or int(tokens.max()) < 1 << 16
        held = (
            np.frombuffer(self._keys, dtype=np.uint64),
            np.frombuffer(self._counts, dtype=np.uint8),
            np.diff(np.frombuffer(self._starts, dtype=np.uint32)).astype(np.uint8),
            tokens.astype(np.uint16) if narrow else tokens,
            np.frombuffer(self._shares, dtype=np.uint8),
        )
        return dict(zip(NAMES, held, strict=True))

    def everything(self) -> dict[int, Known]:
        """All contexts, by their keys."""
        return {key: self._at(place) for place, key in enumerate(self._keys)}

    def _at(self, place: int) -> Known:
        first, end = self._starts[place], self._starts[place + 1]
        successors = [(self._tokens[at], PROBABILITIES[self._shares[at]]) for at in range(first, end)]
        return Known(self._counts[place], successors)


PROBABILITIES = [(step / STEPS) * (step / STEPS) for step in range(STEPS + 1)]


def as_arrays(contexts: Mapping[int, Known], vocab_size: int) -> dict[str, np.ndarray]:
    """The arrays of `Frozen`, by name."""
    keys = sorted(contexts)
    kept = [[pair for pair in contexts[key].successors if pair[1] >= LEAST_KEPT][:KEPT] for key in keys]
    pairs = [pair for successors in kept for pair in successors]
    return {
        "keys": np.array(keys, dtype=np.uint64),
        "counts": np.array([min(contexts[key].times, LARGEST_COUNT) for key in keys], dtype=np.uint8),
        "sizes": np.array([len(successors) for successors in kept], dtype=np.uint8),
        "tokens": np.array([token for token, _ in pairs], dtype=np.uint16 if vocab_size <= 1 << 16 else np.uint32),
        "shares": np.array([max(round(STEPS * share**0.5), 1) for _, share in pairs], dtype=np.uint8),
    }


def frozen_of(successors: Successors, vocab_size: int) -> Frozen:
    """All that is known, as `from_arrays(as_arrays(successors.everything()))`; what was loaded is not unpacked."""
    newer = from_arrays(as_arrays(successors.learned(), vocab_size), vocab_size)
    earlier = successors.earlier
    if not isinstance(earlier, Frozen):
        earlier = from_arrays(as_arrays(earlier.everything(), vocab_size), vocab_size)
    return joined(earlier, newer)


def joined(earlier: Frozen, newer: Frozen) -> Frozen:
    """The contexts of both; what is newer counts."""
    old, new = earlier.arrays(), newer.arrays()
    stays = ~np.isin(old["keys"], new["keys"])
    keys, counts, sizes = (np.concatenate([old[name][stays], new[name]]) for name in ("keys", "counts", "sizes"))
    starts = np.concatenate([_starts(old["sizes"])[stays], len(old["tokens"]) + _starts(new["sizes"])])
    order = np.argsort(keys)
    sizes, starts = sizes[order], starts[order]
    # Of each successor its place among those of both: the start of its context, and how far it stands behind that.
    places = np.repeat(starts - _starts(sizes), sizes) + np.arange(int(sizes.sum(dtype=np.int64)))
    tokens, shares = (np.concatenate([old[name], new[name]])[places] for name in ("tokens", "shares"))
    return Frozen(keys[order], counts[order], sizes, tokens, shares)


def _starts(sizes: np.ndarray) -> np.ndarray:
    """Where each of several stretches begins, one behind the other."""
    ends: np.ndarray = np.cumsum(sizes, dtype=np.int64)
    found: np.ndarray = ends - sizes
    return found


def from_arrays(arrays: Mapping[str, np.ndarray], vocab_size: int) -> Frozen:
    """What was saved, checked: nothing in it can be looked up out of bounds.

    Raises:
        InputError: an array is missing, or does not go with the others or with the vocabulary.
    """
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        raise InputError(f"it has no {missing[0]}")
    keys, counts, sizes, tokens, shares = (arrays[name] for name in NAMES)
    kinds: Iterable[tuple[np.ndarray, tuple[str, ...]]] = (
        (keys, ("uint64",)),
        (counts, ("uint8",)),
        (sizes, ("uint8",)),
        (tokens, ("uint16", "uint32")),
        (shares, ("uint8",)),
    )
    if any(values.ndim != 1 or values.dtype.name not in allowed for values, allowed in kinds):
        raise InputError("its arrays are of other types")
    if not (len(keys) == len(counts) == len(sizes) and len(tokens) == len(shares) == int(sizes.sum(dtype=np.int64))):
        raise InputError("its arrays are of different lengths")
    if len(keys) > 1 and not (keys[1:] > keys[:-1]).all():
        raise InputError("its contexts are not in order")
    if len(tokens) and int(tokens.max()) >= vocab_size:
        raise InputError(f"it names token {int(tokens.max())} and has a vocabulary of {vocab_size}")
    return Frozen(keys, counts, sizes, tokens, shares)
