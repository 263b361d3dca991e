"""A hash of the texts that a drafter learned from; `Draft.experience` says what it is for."""

from __future__ import annotations

from array import array
from hashlib import blake2b


def experience_with(before: int, tokens: array[int]) -> int:
    """The hash of what was learned before and of one more text; the same in every process."""
    digest = blake2b(before.to_bytes(8, "little") + tokens.tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
