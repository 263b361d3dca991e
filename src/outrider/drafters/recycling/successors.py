"""What the target expected after a context, averaged over its occurrences; the least recently met is dropped first."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

KEPT = 8  # successors of a context
SCALE = (1 << 32) - 1  # probabilities are kept as whole numbers of 1/SCALE, in the lower half of a word
MOST_COUNTED = 1000
MOST_NOTED = 8  # observations of a context that wait
OFTEN = 16  # times; a mean of so many is used as it is until MOST_NOTED further ones join it together


class Known(NamedTuple):
    """What is known of a context.

    Attributes:
        times: how often the context occurred.
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
    Most contexts are never looked up, so that an observation is only noted, and joins the mean when somebody asks.

    Args:
        most: contexts; beyond it the one not met for longest is dropped.
        forgetting: the least weight of a new observation in the mean.
        earlier: what to start from where a context is met for the first time.

    Attributes:
        earlier: that.
    """

    def __init__(self, most: int, forgetting: float, earlier: Earlier | None = None) -> None:
        self._most = most
        self._forgetting = forgetting
        self.earlier: Earlier = NothingEarlier() if earlier is None else earlier
        # Packed: a word for the count, then one for each successor. Tuples of floats take five times as much.
        self._entries: dict[int, array[int] | Noted] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: int) -> Known | None:
        """What is known of a context; None if it was never met. Of one met OFTEN, a few observations may be missing."""
        entry = self.settled(key)
        if entry is None:
            return self.earlier.find(key)
        return _unpacked(entry)

    def mark(self, key: int) -> object:
        """Something that stays the same object while nothing was learned of a context."""
        return self.settled(key)

    def settled(self, key: int) -> array[int] | None:
        """The packed mean of a context; None where it was not met since the start. Another object after each change."""
        entry = self._entries.get(key)
        if not isinstance(entry, Noted):
            return entry
        if entry.mean is not None and entry.mean[0] >= OFTEN:
            return entry.mean  # a few observations more would hardly move it
        # In its place, so that the order in which contexts were met stays.
        settled = self._entries[key] = self._mean(key, entry)
        return settled

    def learn(self, key: int, tokens: Sequence[int], probabilities: Sequence[float]) -> None:
        """The target was at this context, and these were its most probable tokens, likeliest first."""
        self.note(key, packed(np.asarray([tokens]), np.asarray([probabilities]))[0])

    def note(self, key: int, observed: bytes) -> None:
        """As `learn`, with a row of `packed`."""
        entry = self._entries.pop(key, None)  # so that it becomes the newest
        noted = Noted(entry.mean, [*entry.rows, observed]) if isinstance(entry, Noted) else Noted(entry, [observed])
        self._entries[key] = noted if len(noted.rows) < MOST_NOTED else self._mean(key, noted)
        if len(self._entries) > self._most:
            del self._entries[next(iter(self._entries))]

    def everything(self) -> dict[int, Known]:
        """All contexts, with what was learned before; those that were met last come last."""
        known = self.earlier.everything()
        for key, found in self.learned().items():
            known.pop(key, None)
            known[key] = found
        return known

    def learned(self) -> dict[int, Known]:
        """The contexts that were met since the start, with every observation; those that were met last come last."""
        for key, entry in self._entries.items():
            if isinstance(entry, Noted):
                self._entries[key] = self._mean(key, entry)
        return {key: _unpacked(entry) for key, entry in self._entries.items() if not isinstance(entry, Noted)}

    def _mean(self, key: int, noted: Noted) -> array[int]:
        """The mean, with what was noted since."""
        earlier = self.earlier.find(key) if noted.mean is None else None
        if earlier is not None:
            count, means = earlier.times, dict(earlier.successors)
        else:
            count = 0 if noted.mean is None else noted.mean[0]
            means = {word >> 32: (word & SCALE) / SCALE for word in (noted.mean or ())[1:]}
        for row in noted.rows:
            weight = max(1 / (count + 1), self._forgetting) if count else 1.0
            means = {token: share * (1 - weight) for token, share in means.items()}
            for word in array("Q", row):
                token = word >> 32
                means[token] = means.get(token, 0.0) + weight * ((word & SCALE) / SCALE)
            means = dict(sorted(means.items(), key=_likeliest)[:KEPT])
            count = min(count + 1, MOST_COUNTED)
        words = [(token << 32) | int(min(share, 1.0) * SCALE) for token, share in means.items()]
        return array("Q", [count, *words])


class Noted(NamedTuple):
    """A context with observations that are not in its mean yet.

    Attributes:
        mean: None where there is none.
        rows: of `packed`, oldest first.
    """

    mean: array[int] | None
    rows: list[bytes]


def packed(tokens: np.ndarray, probabilities: np.ndarray) -> list[bytes]:
    """Observations as they are kept, one for each row: at most KEPT words, each a token and its probability."""
    shares = np.minimum(probabilities[:, :KEPT].astype(np.float64), 1.0) * SCALE
    words = (tokens[:, :KEPT].astype(np.uint64) << np.uint64(32)) | shares.astype(np.uint64)
    rows, width = words.tobytes(), words.shape[1] * words.itemsize
    return [rows[first : first + width] for first in range(0, len(rows), width)]


def _likeliest(pair: tuple[int, float]) -> float:
    return -pair[1]


def _unpacked(mean: array[int]) -> Known:
    return Known(mean[0], [(word >> 32, (word & SCALE) / SCALE) for word in mean[1:]])
