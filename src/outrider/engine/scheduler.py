"""Which sequences wait, which are active, and how many prompt tokens each may prefill in a round."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from outrider.engine.sequence import ActiveSequence
from outrider.errors import QueueFullError

# From a sequence, the free rows and the active sequences to its row; None leaves it in the queue.
Place = Callable[[ActiveSequence, Sequence[int], Sequence[ActiveSequence]], int | None]
SMALLEST_SHARE = 16  # prompt tokens per row and round, at least


class Scheduler:
    """Owns the queue and the list of active sequences; rows are given first come, first served.

    Args:
        rows: how many sequences may be active at once.
        max_waiting: how many may wait besides.
    """

    def __init__(self, rows: int, max_waiting: int) -> None:
        self.rows = rows
        self.max_waiting = max_waiting
        self._waiting: deque[ActiveSequence] = deque()
        self._active: list[ActiveSequence] = []

    @property
    def active(self) -> Sequence[ActiveSequence]:
        return self._active

    @property
    def waiting(self) -> Sequence[ActiveSequence]:
        return self._waiting

    @property
    def has_room(self) -> bool:
        return len(self._waiting) + len(self._active) < self.rows + self.max_waiting

    def add(self, sequence: ActiveSequence) -> None:
        """Put a sequence at the end of the queue.

        Raises:
            QueueFullError: the queue is full.
        """
        if not self.has_room:
            raise QueueFullError(
                f"{len(self._active)} texts are decoded and {len(self._waiting)} wait, the limit of this engine: try "
                "again later, or open it with a larger max_waiting"
            )
        self._waiting.append(sequence)

    def admit(self, place: Place) -> None:
        """Give the free rows to the sequences that have waited longest.

        They are sorted by length, so that texts of similar length are neighbours in the cache.

        Args:
            place: chooses the row of a sequence; it may leave one in the queue, whose turn stays.
        """
        if not self._waiting:
            return
        # An interrupt may come after any line: a sequence may then be in both lists until the next call, never in none.
        # Every round comes here: of a long queue only as many are looked at as there are rows.
        first = list(islice(self._waiting, self.rows))
        for sequence in [sequence for sequence in first if sequence in self._active]:
            self._waiting.remove(sequence)
        taken = {sequence.row for sequence in self._active}
        free = [row for row in range(self.rows) if row not in taken]
        coming = sorted(islice(self._waiting, len(free)), key=lambda sequence: len(sequence.tokens))
        for sequence in coming:
            row = place(sequence, free, self._active)
            if row is not None:
                sequence.row = row
                free.remove(row)
                self._active.append(sequence)
                self._waiting.remove(sequence)

    def remove(self, sequence: ActiveSequence) -> None:
        """Take a sequence out of either list, which frees its row."""
        if sequence in self._active:
            self._active.remove(sequence)
        if sequence in self._waiting:
            self._waiting.remove(sequence)


def reading_shares(unread: Sequence[int], budget: int) -> list[int]:
    """How many prompt tokens each sequence reads in a round (chunked prefill).

    The budget is shared equally, so that a short prompt does not wait for a long one before it. What a short prompt
    leaves of its share goes to the others.

    Args:
        unread: prompt tokens that each sequence has not read, at least 1.
        budget: prompt tokens of the round. It is exceeded where shares would fall below SMALLEST_SHARE.
    """
    shares = [0] * len(unread)
    left = max(budget, SMALLEST_SHARE * len(unread))
    # From the shortest to the longest: each takes at most its part of what is left.
    order = sorted(range(len(unread)), key=lambda place: unread[place])
    for done, place in enumerate(order):
        shares[place] = min(unread[place], left // (len(unread) - done))
        left -= shares[place]
    return shares
