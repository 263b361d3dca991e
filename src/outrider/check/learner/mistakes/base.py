"""What is said of a known mistake."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mistake:
    """A known mistake.

    Attributes:
        name: a few words.
        what: what the file does.
        remedy: what it should do.
    """

    name: str
    what: str
    remedy: str
