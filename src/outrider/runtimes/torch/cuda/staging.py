"""The staging area: all numbers of a pass, which one copy brings to the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from outrider.runtimes.base import at_once
from outrider.runtimes.torch.cuda.device import Device

AREAS = 4  # on the host, one after the other: a copy that is still under way is not written over


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the numbers of a pass lie in the area. All are int64.

    Attributes:
        rows, width: of the padded batch.
        words: of 64 bits, for the ancestors of each token.
    """

    rows: int
    width: int
    words: int = 1

    @property
    def tokens(self) -> int:
        return self.rows * self.width

    @property
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The sections in their order, as in `Sections`."""
        flat = (self.tokens,)
        return {
            "positions": flat,
            "places": flat,
            "lengths": (self.rows,),
            "step": (1,),
            "tokens": flat,
            "slots": (self.rows,),
            "scored": flat,
            "fed": flat,
            "ancestors": (self.rows, self.width, self.words),
        }

    @property
    def size(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.sizes.values())

    def sections(self, area: Any) -> Sections:
        """Views of the area: of a tensor, or of a NumPy array."""
        found, start = {}, 0
        for name, shape in self.sizes.items():
            end = start + int(np.prod(shape))
            found[name] = area[start:end].reshape(shape)
            start = end
        counters = 2 * self.tokens + self.rows + 1
        return Sections(**found, counters=area[:counters])


@dataclass(frozen=True, slots=True)
class Sections:
    """The numbers of a pass.

    Attributes:
        positions: [tokens], of each token in its text.
        places: [tokens], where its keys and values go, in the cache of all slots.
        lengths: [rows], the tokens of a row that every new token sees.
        step: [1], how many tokens of a rollout were chosen.
        tokens: [tokens], ids.
        slots: [rows].
        scored: [tokens]; first the numbers of the tokens whose logits are wanted, in their order.
        fed: [tokens]; first the numbers of the tokens that are no padding, in their order.
        ancestors: [rows, width, words], bit n of the words: the token sees the token at place `length + n` of its row.
        counters: the first four, which grow by one with each token of a rollout.
    """

    positions: Any
    places: Any
    lengths: Any
    step: Any
    tokens: Any
    slots: Any
    scored: Any
    fed: Any
    ancestors: Any
    counters: Any


assert {each.name for each in fields(Sections)} - {"counters"} == set(Layout(1, 1).sizes)


class Staging:
    """Areas on the host, and one on the device that graphs read.

    Args:
        size: numbers that an area holds.
    """

    def __init__(self, device: Device, size: int) -> None:
        self.size = size
        self.there = torch.zeros(size, dtype=torch.int64, device=device.place)
        self._device = device
        self._areas = [device.host_area(size) for _ in range(AREAS)]
        self._here = [area.numpy() for area in self._areas]
        self._copied: list[Callable[[], None]] = [at_once] * AREAS
        self._next = 0

    def area(self) -> np.ndarray[Any, Any]:
        """The area on the host to be filled for the next copy."""
        self._copied[self._next]()
        return self._here[self._next]

    def copy(self, count: int) -> None:
        """Bring the first `count` numbers to the device; does not wait."""
        self.there[:count].copy_(self._areas[self._next][:count], non_blocking=True)
        self._copied[self._next] = self._device.mark()
        self._next = (self._next + 1) % AREAS
