"""Control characters as pictures: what others wrote can be shown on a terminal without steering it."""

from __future__ import annotations

PICTURES = 0x2400  # Unicode's block of control pictures
DELETE, DELETE_PICTURE = 0x7F, "\N{SYMBOL FOR DELETE}"
ESCAPE_PICTURE = "\N{SYMBOL FOR ESCAPE}"
LAID_OUT = "\n\t"
# The characters of C1 are short for an escape and a letter, and have no pictures of their own.
C1 = range(0x80, 0xA0)
C1_LETTERS = 0x40

TABLE = (
    {code: chr(PICTURES + code) for code in range(0x20) if chr(code) not in LAID_OUT}
    | {DELETE: DELETE_PICTURE}
    | {code: ESCAPE_PICTURE + chr(code - C1.start + C1_LETTERS) for code in C1}
)


def pictures(text: str) -> str:
    """The text with every control character but tabs and ends of lines as a picture."""
    return text.translate(TABLE)
