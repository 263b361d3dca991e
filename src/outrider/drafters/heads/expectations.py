"""How often a head's tokens come: its probabilities, calibrated by the tokens that were emitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from outrider.drafters.lookup.calibration import BUCKETS, Calibration
from outrider.maths.arrays import HostFloats

DEEPEST = 7  # levels that are told apart


@dataclass(slots=True)
class _Round:
    """What was expected in one round of one text.

    Attributes:
        start: the place of the first draft token in the text.
        after: by the draft tokens before it, the children with their probabilities, and whether they were chosen.
    """

    start: int
    after: dict[tuple[int, ...], tuple[dict[int, float], bool]] = field(default_factory=dict)


class Expectations:
    """The ratio of hits to expected hits, by level, rank among siblings and size of the probability.

    The probabilities of drawn children are estimated before they are drawn.
    """

    def __init__(self) -> None:
        self._calibrations = {True: Calibration(), False: Calibration()}  # chosen, drawn
        self._rounds: dict[int, _Round] = {}

    def corrected(self, shares: Sequence[float], level: int, chosen: bool) -> list[float]:
        """The chances of children, falling, to be accepted if their parent is."""
        calibration = self._calibrations[chosen]
        evidence = min(level, DEEPEST)
        return [calibration.calibrated(share, (evidence, min(rank, 1))) for rank, share in enumerate(shares)]

    def factors(self) -> HostFloats:
        """What `corrected` corrects by: float64 [2 (drawn, chosen), levels, 2 (first child, others), buckets]; 0 where
        nothing is known."""
        found = np.zeros((2, DEEPEST + 1, 2, BUCKETS))
        for chosen, calibration in self._calibrations.items():
            for ((level, rank), bucket), factor in calibration.factors().items():
                found[int(chosen), level, rank, bucket] = factor
        return found

    def begin(self, sequence: int, start: int) -> None:
        """A draft begins."""
        self._rounds[sequence] = _Round(start)

    def note(
        self, sequence: int, path: Sequence[int], tokens: Sequence[int], shares: Sequence[float], chosen: bool
    ) -> None:
        """What is expected after the draft tokens of `path`, in the order of rank."""
        self._rounds[sequence].after[tuple(path)] = dict(zip(tokens, shares, strict=False)), chosen

    def learn(self, sequence: int, text: Sequence[int]) -> None:
        """The text after the round tells what came."""
        ended = self._rounds.pop(sequence, None)
        if ended is None:
            return
        path: tuple[int, ...] = ()
        for token in text[ended.start :]:
            if path not in ended.after:
                return
            shares, chosen = ended.after[path]
            evidence = min(len(path), DEEPEST)
            for rank, (child, share) in enumerate(shares.items()):
                self._calibrations[chosen].learn({child: share}, (evidence, min(rank, 1)), token)
            path = (*path, token)

    def forget(self, sequence: int) -> None:
        self._rounds.pop(sequence, None)
