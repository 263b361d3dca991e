"""Successors in the compiled library: the same means as successors.py, bit for bit, for a small part of the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from outrider.drafters.recycling.frozen import Frozen
from outrider.drafters.recycling.successors import Known, Successors


class CompiledSuccessors(Successors):
    """The successors of contexts of one length.

    Args:
        library: the compiled library.
        most, forgetting: as Successors.
        earlier: what to start from.

    Attributes:
        core: the library's own object.
    """

    def __init__(self, library: Any, most: int, forgetting: float, earlier: Frozen | None) -> None:
        super().__init__(most, forgetting, earlier)
        self._library = library
        self.core = library.Successors(most, forgetting, None if earlier is None else earlier.compiled(library))

    def __len__(self) -> int:
        return len(self.core)

    def find(self, key: int) -> Known | None:
        found = self.core.find(key)
        return None if found is None else Known(*found)

    def mark(self, key: int) -> object:
        return object()  # foresight is not cached: the library computes it faster than a cache is read

    def learned(self) -> dict[int, Known]:
        return {key: Known(*found) for key, found in self.core.learned()}

    def note_all(
        self,
        single: CompiledSuccessors,
        contexts: Sequence[tuple[int | None, int]],
        tokens: np.ndarray,
        probabilities: np.ndarray,
    ) -> bool:
        """As `note`, for contexts of two tokens here and of one in `single`.

        Args:
            contexts: as `RecyclingMemory.learn`.
            tokens, probabilities: int64 and float32, in one piece each.

        Returns:
            False where a probability is no finite number; then nothing is noted.
        """
        return self._library.note(self.core, single.core, contexts, tokens, probabilities)  # type: ignore[no-any-return]
