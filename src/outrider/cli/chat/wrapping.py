"""Lines that end between words, though nobody knows the next token yet."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from dataclasses import replace

from outrider.cli.render import OriginWriter, PlainWriter
from outrider.engine.events import TokenEvent

Writer = PlainWriter | OriginWriter
WIDE = ("W", "F")
MARGIN = 8  # columns that are left for the rest of a word whose first token is written


class Wrapped:
    """A writer whose lines end at a space near the edge of the terminal.

    Args:
        writer: writes the tokens.
        columns: how many characters a line has.
    """

    def __init__(self, writer: Writer, columns: int) -> None:
        self._writer = writer
        self._columns = columns
        self._column = 0

    def write(self, event: TokenEvent) -> None:
        text = event.text
        begins_word = text.startswith(" ") and text.strip() != ""
        if begins_word and self._column + _width(text) > self._columns - MARGIN:
            text = "\n" + text.removeprefix(" ")
        _, newline, last = text.rpartition("\n")
        self._column = _width(last) + (0 if newline else self._column)
        if self._column > self._columns:  # the terminal began a line by itself
            self._column %= self._columns
        self._writer.write(replace(event, text=text))

    def close(self) -> None:
        self._writer.close()


def wrapped(writer: Writer) -> Writer | Wrapped:
    """The writer, wrapped where it writes on a terminal."""
    return Wrapped(writer, shutil.get_terminal_size().columns) if sys.stdout.isatty() else writer


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in WIDE else 1 for letter in text)
