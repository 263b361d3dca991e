"""Stateless random numbers: every draw is a pure function of what it is for (a counter-based generator).

A *key* is two 32-bit words, hashed from (seed, round start, sequence position, purpose, branch). There is no state, so
a result cannot depend on who shares a batch, on rounds that were skipped, or on the runtime.

The *round start* is part of the key because a position may be drafted again after a rejection. Under the `block` rule
the verdict of a round depends on draft tokens and uniforms beyond the place where it stopped. If the next round drew
the same numbers, they would not be independent of what was emitted. Under `coupled` the opposite is wanted: the draw at
a position is the same in every round, so its key leaves the round start out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from outrider.maths.arrays import Array, HostInts, operations
from outrider.maths.arrays import numpy as in_numpy

Key = tuple[int, int]
MOST_DRAFTERS = 63
MASK = 2**64 - 1


class Purpose(IntEnum):
    """What a draw is for; draws for different purposes are independent."""

    DRAFT = 1
    ACCEPT = 2
    NEXT = 3  # the correction or the bonus: one of the two is drawn per round
    TARGET = 4  # the target's own draw, shared with the drafter under `coupled`


STEP, MIX_1, MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # of SplitMix64


def _scramble(word: int) -> int:
    """The output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    word = (word + STEP) & MASK
    word = ((word ^ (word >> 30)) * MIX_1) & MASK
    word = ((word ^ (word >> 27)) * MIX_2) & MASK
    return word ^ (word >> 31)


def key(seed: int, start: int, position: int, purpose: Purpose, branch: int = 0) -> Key:
    """The key of one draw. All arguments are non-negative integers below 2**64."""
    word = _scramble(_scramble(_of_round(seed, start) ^ position) ^ ((branch << 3) | purpose))
    return word >> 32, word & 0xFFFFFFFF


@lru_cache(maxsize=1024)
def _of_round(seed: int, start: int) -> int:
    """What the keys of a round have in common."""
    return _scramble(_scramble(seed) ^ start)


def uniform(key: Key) -> float:
    """A number in [0, 1) with 53 random bits."""
    return (_scramble((key[0] << 32) | key[1]) >> 11) * 2.0**-53


def exponential(keys: Sequence[Key], vocab_size: int, like: Array) -> Array:
    """Standard exponential noise, float32 [keys, vocab], in the library and on the device of `like`.

    A *race*, argmax(weight / exponential) over the tokens, draws from the normalised weights. With Gumbel noise
    g = -log(exponential) it is argmax(log weight + g), the Gumbel-max trick, and takes one logarithm less.
    """
    return operations(like).exponential(keys, vocab_size, like)


def exponential_of_tokens(key: Key, tokens: HostInts) -> Array:
    """The noise of some tokens only, float32 [tokens] in NumPy: what `exponential` holds at these places."""
    return in_numpy.exponential_of_tokens([key], tokens)[0]


@dataclass(frozen=True, slots=True)
class TreeKeys:
    """What a device makes the keys of a tree of: `key` with its first two arguments scrambled, and the others to come.

    Attributes:
        word: of seed and round start.
        position: of the first draft token.
        last: what the last step adds, without the branch.
        branch: what it adds for each branch.
    """

    word: int
    position: int
    last: int
    branch: int

    def at(self, depth: int, branch: int) -> Key:
        """The key of a draw after so many draft tokens."""
        word = _scramble(_scramble(self.word ^ (self.position + depth)) ^ (self.last + branch * self.branch))
        return word >> 32, word & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class RoundNoise:
    """The random numbers of one round of one sequence.

    Attributes:
        seed: of the request, 0 <= seed < 2**64.
        start: the sequence position of the round's first draft token, in tokens from the start of the prompt.
        shared: whether drafter and target use the same draw at a position (the `coupled` rule).
        drafter: the number of the drafter, 0 for the only one. Drafters of one round must draw independently.
    """

    seed: int
    start: int
    shared: bool = False
    drafter: int = 0

    def draft(self, position: int, branch: int = 0) -> Key:
        """For drawing the draft token at `position`. Nodes of a tree at one position have a `branch` each."""
        if self.shared:
            return self.target(position)
        return key(self.seed, self.start, position, Purpose.DRAFT, (self.drafter << 32) | branch)

    def tree(self, position: int) -> TreeKeys:
        """The keys that `draft` gives from this position on."""
        seeded = _scramble(self.seed)
        if self.shared:
            return TreeKeys(_scramble(seeded), position, Purpose.TARGET, 0)
        return TreeKeys(_scramble(seeded ^ self.start), position, (self.drafter << 35) | Purpose.DRAFT, 1 << 3)

    def of_drafter(self, number: int) -> RoundNoise:
        """The noise of one of several drafters, counted from 0; there are at most MOST_DRAFTERS."""
        return replace(self, drafter=self.drafter * (MOST_DRAFTERS + 1) + number + 1)

    def knowing(self, experience: Sequence[int]) -> RoundNoise:
        """The noise for a round whose draft rests on what was learned from other texts.

        A text that was made with the same seed was made with the same noise. A draft that is copied from it is not
        independent of this noise, and the verdict on it would not be exact. With the experience in the key, texts that
        were made before this experience have other noise. Under `coupled` a verdict is exact whatever the draft knows,
        and the noise stays what it is.

        Args:
            experience: hashes of what was learned; empty where that is nothing.
        """
        if self.shared or not experience:
            return self
        seed = self.seed
        for part in experience:
            seed = _scramble(_scramble(seed) ^ part)
        return RoundNoise(seed, self.start, self.shared, self.drafter)  # several times in each round

    def accept(self, position: int, branch: int = 0) -> float:
        """The uniform number in [0, 1) that decides whether the draft token at `position` is accepted."""
        return uniform(key(self.seed, self.start, position, Purpose.ACCEPT, branch))

    def next(self, position: int) -> Key:
        """For drawing the correction or the bonus at `position`."""
        return key(self.seed, self.start, position, Purpose.NEXT)

    def target(self, position: int) -> Key:
        """For the target's own draw at `position`, the same in every round."""
        return key(self.seed, 0, position, Purpose.TARGET)
