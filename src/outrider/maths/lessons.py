"""Which seeds the texts had that taught something: what a drafter or a policy learns from one text shapes the drafts of
others."""

from __future__ import annotations

from outrider.maths.noise import MASK, Purpose, key

PLACES = 2**16  # seeds that are told apart; of two in one place each counts as the other


class Lessons:
    """What texts of each seed taught so far, as a number that tells nothing else.

    A text that was made with the same seed was made with the same noise. Whether its drafts were accepted tells of this
    noise, and so does everything that was learned from it: how likely drafts are, how long they should be. A draft of
    another text that is made or left out for this reason is not independent of the noise that judges it. So the noise
    of a text is keyed by what texts of its seed taught before (`RoundNoise.knowing`). Texts of other seeds have other
    noise: what they taught changes nothing.
    """

    def __init__(self) -> None:
        self._sums: dict[int, int] = {}

    def add(self, seed: int) -> int:
        """A round of a text of this seed taught something; returns what this adds to `total`."""
        total = self.total(seed)
        first, second = key(total, 0, 0, Purpose.TARGET)
        lesson = first << 32 | second
        self._sums[seed % PLACES] = (total + lesson) & MASK
        return lesson

    def total(self, seed: int) -> int:
        """The sum of what texts of this seed taught, so that what one of them taught can be taken out; 0 before."""
        return self._sums.get(seed % PLACES, 0)
