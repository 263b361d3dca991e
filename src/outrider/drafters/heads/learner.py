"""What teaches a head while nothing is asked, as the drafter calls it. `training/idle.py` has one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from outrider.drafters.heads.network import HeadNetwork


class Learner(Protocol):
    """Learns from texts that have ended."""

    @property
    def experience(self) -> tuple[int, ...]:
        """A hash of all texts that it was ever given, as in `Draft.experience`; empty before the first one.

        What is drafted rests on all of them, whether the head was exchanged or not: that it was not tells of them too.
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
