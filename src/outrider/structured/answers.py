"""The pieces that an answer is made of, as they come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from outrider.text import overlap


@dataclass(frozen=True, slots=True)
class Content:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text that the model thinks by."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A tool is called. Calls are numbered from 0."""

    call: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next part of a call's arguments; all parts together are a JSON document."""

    call: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnds:
    """A call is complete."""

    call: int


Piece = Content | Reasoning | CallBegins | CallArguments | CallEnds


def joined(pieces: Iterable[Piece]) -> list[Piece]:
    """The same with neighbours of one kind in one piece, and without empty ones."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, CallBegins | CallEnds):
            found.append(piece)
            continue
        if not piece.text:
            continue
        last = found[-1] if found else None
        if isinstance(last, Content | Reasoning | CallArguments) and last == replace(piece, text=last.text):
            found[-1] = replace(last, text=last.text + piece.text)
        else:
            found.append(piece)
    return found


class Trimmed:
    """Text without white space at either end, as it comes."""

    def __init__(self) -> None:
        self._begun = False
        self._held = ""

    def push(self, text: str) -> str:
        if not self._begun:
            text = text.lstrip()
        whole = self._held + text
        shown = whole.rstrip()
        self._held = whole[len(shown) :] if self._begun or shown else ""
        self._begun = self._begun or bool(shown)
        return shown


class TagScanner:
    """Finds tags in text that comes in pieces; what may begin one is held back.

    Args:
        tags: which.
    """

    def __init__(self, tags: Iterable[str]) -> None:
        self._tags = tuple(tags)
        self._held = ""

    def push(self, text: str) -> tuple[str, str | None, str]:
        """The text before the first tag, that tag, and what stands behind it; all that is certain, and no tag."""
        text = self._held + text
        found = [(place, tag) for tag in self._tags if (place := text.find(tag)) >= 0]
        if found:
            place, tag = min(found, key=lambda each: each[0])
            self._held = ""
            return text[:place], tag, text[place + len(tag) :]
        cut = len(text) - max((overlap(text, tag) for tag in self._tags), default=0)
        self._held = text[cut:]
        return text[:cut], None, ""

    def flush(self) -> str:
        """What was held back; at the end."""
        held, self._held = self._held, ""
        return held
