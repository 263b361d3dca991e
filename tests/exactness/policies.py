"""Lookahead policies for the tests."""

from collections.abc import Hashable, Sequence
from itertools import cycle

from outrider import LookaheadPolicy


class Sometimes(LookaheadPolicy):
    """A policy that skips rounds."""

    def __init__(self) -> None:
        self.plans = cycle((3, 0, 2, 0, 0, 4))

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        return [next(self.plans) for _ in sequences]
