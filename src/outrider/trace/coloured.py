"""The text of a trace, laid out in lines of a fixed width, each piece with its origin."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from outrider.engine.events import Origin
from outrider.engine.record import RoundRecord
from outrider.trace.summary import parts

WIDE = ("W", "F")
LINE_END = "\N{RETURN SYMBOL}"
NO_PICTURE = "\N{MIDDLE DOT}"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some characters of one origin that stand side by side.

    Attributes:
        line, column: where it begins, in characters of a fixed width.
    """

    line: int
    column: int
    text: str
    origin: Origin


def first_text(records: Iterable[RoundRecord]) -> list[tuple[str, Origin]]:
    """What the first text of a trace says, piece by piece; empty where the trace holds no text."""
    found: list[tuple[str, Origin]] = []
    first = None
    for _, text, part in parts(records):
        if part.texts:
            first = text if first is None else first
            if text == first:
                found += zip(part.texts, part.origins, strict=True)
    return found


def laid_out(pieces: Sequence[tuple[str, Origin]], *, columns: int, lines: int) -> tuple[list[Piece], bool]:
    """The beginning of a text on so many lines, and whether it goes on behind them."""
    placed: list[Piece] = []
    line = column = 0
    for text, origin in pieces:
        run, start = "", column
        for letter in text:
            shown = LINE_END if letter == "\n" else printable(letter)
            width = 2 if unicodedata.east_asian_width(shown) in WIDE else 1
            if column + width > columns:
                _place(placed, line, start, run, origin)
                line, column, run, start = line + 1, 0, "", 0
            if line == lines:
                return placed, True
            run += shown
            column += width
            if letter == "\n":
                _place(placed, line, start, run, origin)
                line, column, run, start = line + 1, 0, "", 0
        _place(placed, line, start, run, origin)
    return placed, False


def printable(text: str) -> str:
    """The text with a dot for each character that has no picture; SVG cannot hold some of them at all."""
    return "".join(letter if letter.isprintable() else NO_PICTURE for letter in text)


def _place(placed: list[Piece], line: int, column: int, text: str, origin: Origin) -> None:
    if text:
        placed.append(Piece(line, column, text, origin))
