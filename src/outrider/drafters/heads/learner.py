"""The protocol of what trains a head while the engine is idle. `training/idle.py` implements it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from outrider.drafters.heads.network import HeadNetwork


class Learner(Protocol):
    """Learns from texts that have ended."""

    @property
    def experience(self) -> tuple[int, ...]:
        """A hash of all texts that it was ever given, as in `Draft.experience`; empty before the first one.

        Drafts depend on all of them, even if the head was not exchanged: that decision depends on them as well.
        """

    def remember(self, tokens: Sequence[int], prompt: int) -> None:
        """A text has ended.

        Args:
            prompt: how many of its tokens are the prompt.
        """

    def step(self) -> bool:
        """One short step of learning; whether more is to be done."""

    def take(self) -> HeadNetwork | None:
        """What drafts from now on, with the same tokens and layers; None where nothing changed since the last call."""
