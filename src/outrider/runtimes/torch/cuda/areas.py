"""Areas of 64-bit words that one copy brings to the device, in sections with names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch


class Area(ABC):
    """What is where in an area of int64."""

    __slots__ = ()
    floats: ClassVar[frozenset[str]]  # sections of float64; the others are of int64

    @property
    @abstractmethod
    def sizes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the sections, in their order."""

    @property
    def size(self) -> int:
        """Words of all sections."""
        return sum(int(np.prod(shape)) for shape in self.sizes.values())

    def sections(self, area: Any) -> dict[str, Any]:
        """Views of an area of int64: of a tensor, or of a NumPy array."""
        floats = torch.float64 if isinstance(area, torch.Tensor) else np.float64
        found, start = {}, 0
        for name, shape in self.sizes.items():
            end = start + int(np.prod(shape))
            part = area[start:end]
            found[name] = (part.view(floats) if name in self.floats else part).reshape(shape)
            start = end
        return found
