"""Which replica has read the beginning of a prompt already."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

BLOCK = 256  # characters of a prompt: two that share so many share a block of the table
MOST = 1 << 16  # entries of the table
LONGEST = 1 << 16  # characters of a prompt that are looked at
# In the order in which chat templates put them.
FIELDS = ("tools", "system", "instructions", "messages", "input", "prompt")


class Routes:
    """Beginnings of prompts, and the replicas that hold them in their prefix caches; the oldest are forgotten (LRU).

    A prompt is cut into blocks, and each beginning of whole blocks has a key that is a hash of all of it. The door
    knows no tokens and no replica's memory: the table says what was sent where, which is what a prefix cache holds
    unless it was full.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._held: OrderedDict[tuple[bytes, int], None] = OrderedDict()

    def known(self, keys: list[bytes], replica: int) -> int:
        """How many of these blocks, from the first on, the replica was sent before."""
        return next((place for place, key in enumerate(keys) if (key, replica) not in self._held), len(keys))

    def learn(self, keys: list[bytes], replica: int) -> None:
        """The replica reads a prompt with these keys."""
        for key in keys:
            self._held[key, replica] = None
            self._held.move_to_end((key, replica))
        while len(self._held) > self._most:
            self._held.popitem(last=False)

    def forget(self, replica: int) -> None:
        """The replica is gone, and its caches with it."""
        for entry in [entry for entry in self._held if entry[1] == replica]:
            del self._held[entry]


def keys_of(tenant: str, body: Mapping[str, Any]) -> list[bytes]:
    """A key for each beginning of whole blocks of the prompt in a body, the shortest first.

    Args:
        tenant: whose prompt it is: replicas share no prefix between tenants.
    """
    parts = [json.dumps(body[field], ensure_ascii=False) for field in FIELDS if body.get(field) is not None]
    text = "\n".join(parts)[:LONGEST]
    keys, key = [], blake2b(tenant.encode(), digest_size=16).digest()
    for start in range(0, len(text) - BLOCK + 1, BLOCK):
        key = blake2b(key + text[start : start + BLOCK].encode("utf-8", "surrogatepass"), digest_size=16).digest()
        keys.append(key)
    return keys
