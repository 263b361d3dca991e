"""What the target expected after a context, averaged over the times it was there: bounded, oldest out first."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

KEPT = 8  # successors of a context
SCALE = (1 << 32) - 1  # probabilities are kept as whole numbers of 1/SCALE, in the lower half of a word
MOST_COUNTED = 1000


class Known(NamedTuple):
    """What is known of a context.

    Attributes:
        times: how often the target was there.
        successors: tokens with their mean probabilities, likeliest first.
    """

    times: int
    successors: Sequence[tuple[int, float]]


class Earlier(Protocol):
    """Successors that were learned before and no longer change."""

    def find(self, key: int) -> Known | None: ...

    def everything(self) -> dict[int, Known]: ...


class NothingEarlier:
    """The start without any."""

    def find(self, key: int) -> Known | None:
        return None

    def everything(self) -> dict[int, Known]:
        return {}


class Successors:
    """The successors of contexts of one length.

    A context is a key, a number. Its mean is an average of all times, until `forgetting` makes the newest count more.

    Args:
        most: contexts; beyond it the one not met for longest is dropped.
        forgetting: the least weight of a new observation in the mean.
        earlier: what to start from where a context is met for the first time.
    """

    def __init__(self, most: int, forgetting: float, earlier: Earlier | None = None) -> None:
        self._most = most
        self._forgetting = forgetting
        self._earlier: Earlier = NothingEarlier() if earlier is None else earlier
        # Packed: a word for the count, then one for each successor. Tuples of floats take five times as much.
        self._entries: dict[int, array[int]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: int) -> Known | None:
        """What is known of a context; None if it was never met."""
        entry = self._entries.get(key)
        if entry is None:
            return self._earlier.find(key)
        return Known(entry[0], [(word >> 32, (word & SCALE) / SCALE) for word in entry[1:]])

    def learn(self, key: int, tokens: Sequence[int], probabilities: Sequence[float]) -> None:
        """The target was at this context, and these were its most probable tokens, likeliest first."""
        known = self.find(key)
        if known is None:
            count, pairs = 0, list(zip(tokens[:KEPT], probabilities[:KEPT], strict=True))
        else:
            count = known.times
            weight = max(1 / (count + 1), self._forgetting)
            means = {token: share * (1 - weight) for token, share in known.successors}
            for token, probability in zip(tokens[:KEPT], probabilities[:KEPT], strict=True):
                means[token] = means.get(token, 0.0) + weight * probability
            pairs = sorted(means.items(), key=lambda pair: -pair[1])[:KEPT]
        words = [(token << 32) | int(min(share, 1.0) * SCALE) for token, share in pairs]
        self._entries.pop(key, None)  # so that it becomes the newest
        self._entries[key] = array("Q", [min(count + 1, MOST_COUNTED), *words])
        if len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]

    def everything(self) -> dict[int, Known]:
        """All contexts, with what was learned before; those that were met last come last."""
        known = self._earlier.everything()
        for key in list(self._entries):
            found = self.find(key)
            if found is not None:
                known.pop(key, None)
                known[key] = found
        return known
