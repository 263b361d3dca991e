"""Lines on a terminal that end between words, though nobody knows the next token yet."""

from __future__ import annotations

import shutil
import sys
import unicodedata
from dataclasses import dataclass, field

from rich.cells import cell_len

from outrider.engine.events import Origin

HELD = 20  # columns at the end of a line: a word that begins there is shown once it is whole
TAB = 8

JOINER = "\N{ZERO WIDTH JOINER}"
EMOJI_VARIANT = "\N{VARIATION SELECTOR-16}"
SKIN_TONES = range(0x1F3FB, 0x1F400)
FLAG_LETTERS = range(0x1F1E6, 0x1F200)
WIDE = ("W", "F")
OPENING = ("Ps", "Pi")  # categories of what no line ends with
CLOSING = ("Pe", "Pf", "Po", "Lm")  # and of what no line begins with

Span = tuple[str, Origin]


class AsItComes:
    """Text for a file or a pipe, in lines of the model's own."""

    def push(self, text: str, origin: Origin) -> list[Span]:
        return [(text, origin)] if text else []

    def finish(self) -> list[Span]:
        return []


@dataclass(slots=True)
class _Word:
    """What no line may break.

    Attributes:
        width: in columns.
        begins: its first column.
        held: the part that is not shown.
        placed: whether a part of it is shown, so that its line is certain.
    """

    begins: int
    width: int = 0
    last: str = ""
    held: list[Span] = field(default_factory=list)
    placed: bool = False


class Wrapped:
    """Text for a terminal. What is shown stays as it is, so that a word near the edge is held back until it is whole.

    Blanks at the end of a line are left out. A word that is longer than a line is the terminal's to break, and so is a
    very long one that begins far from the edge.

    Args:
        columns: of the terminal. The last one stays free: some terminals begin a line when it is taken.
    """

    def __init__(self, columns: int) -> None:
        self._columns = max(columns - 1, 1)
        self._held = min(HELD, self._columns // 2)
        self._column = 0  # of the next character, blanks that wait included
        self._blanks: list[Span] = []
        self._fresh = True  # no word was shown in this line
        self._word: _Word | None = None
        self._shown: list[Span] = []

    def push(self, text: str, origin: Origin) -> list[Span]:
        """What is to be shown now, of this text and of what was held back."""
        for letter in text:
            if letter == "\n":
                self._end_word()
                self._show("\n", origin)
                self._begin_line()
            elif letter in " \t":
                self._end_word()
                self._blanks.append((letter, origin))
                self._column += 1 if letter == " " else TAB - self._column % TAB
            else:
                self._add(letter, origin)
        return self._taken()

    def finish(self) -> list[Span]:
        """The rest, at the end of the text."""
        self._end_word()
        return self._taken()

    def _add(self, letter: str, origin: Origin) -> None:
        if self._word is not None and _may_break(self._word.last, letter):
            self._end_word()
        if self._word is None:
            self._word = _Word(self._column)
        word = self._word
        word.width += _width(letter)
        word.last = letter
        word.held.append((letter, origin))

    def _taken(self) -> list[Span]:
        """What may be shown, neighbours of one origin together."""
        word = self._word
        if word is not None:
            if not self._fits(word):
                self._place(word)
            if word.placed or word.begins <= self._columns - self._held:
                self._put(word)
        found, self._shown = self._shown, []
        return _joined(found)

    def _end_word(self) -> None:
        word, self._word = self._word, None
        if word is not None:
            self._put(word)
            # Of a word longer than a line the terminal began further lines.
            end = word.begins + word.width
            self._column = end if end <= self._columns else end % (self._columns + 1)

    def _put(self, word: _Word) -> None:
        if not word.placed:
            self._place(word)
        self._shown += word.held
        word.held = []

    def _place(self, word: _Word) -> None:
        """Begin a line where the word does not fit into this one, unless it would be no better there."""
        if not word.placed and not self._fits(word) and not self._fresh:
            self._show("\n", word.held[0][1])
            self._begin_line()
            word.begins = 0
        self._shown += self._blanks
        self._blanks = []
        self._fresh = False
        word.placed = True

    def _begin_line(self) -> None:
        self._column, self._fresh = 0, True
        self._blanks = []

    def _fits(self, word: _Word) -> bool:
        return word.begins + word.width <= self._columns

    def _show(self, text: str, origin: Origin) -> None:
        self._shown.append((text, origin))


def lines_of_standard_output() -> AsItComes | Wrapped:
    """How lines end in what is written there."""
    return Wrapped(shutil.get_terminal_size().columns) if sys.stdout.isatty() else AsItComes()


def _may_break(before: str, letter: str) -> bool:
    """Whether a line may end between two characters that are no blanks: beside those of Chinese, Japanese, emoji."""
    if not (_is_wide(before) or _is_wide(letter)):
        return False
    joined = before == JOINER or _width(letter) == 0 or letter == EMOJI_VARIANT or ord(letter) in SKIN_TONES
    flag = ord(before) in FLAG_LETTERS and ord(letter) in FLAG_LETTERS
    punctuation = unicodedata.category(before) in OPENING or unicodedata.category(letter) in CLOSING
    return not (joined or flag or punctuation)


def _is_wide(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in WIDE


def _width(letter: str) -> int:
    """At the most: terminals disagree about emoji of several characters, and a line that ends early does no harm."""
    return 1 if letter == EMOJI_VARIANT else cell_len(letter)


def _joined(spans: list[Span]) -> list[Span]:
    found: list[Span] = []
    for text, origin in spans:
        if found and found[-1][1] is origin:
            found[-1] = (found[-1][0] + text, origin)
        else:
            found.append((text, origin))
    return found
