"""Text from files and from standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from outrider.errors import InputError

STANDARD_INPUT = "-"


def read_text(file: Path) -> str:
    """The text of a file, or of standard input for "-".

    Raises:
        InputError: it cannot be read.
    """
    return read_standard_input() if str(file) == STANDARD_INPUT else read_file(file)


def read_standard_input() -> str:
    """All of standard input.

    Raises:
        InputError: it is no text.
    """
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input cannot be read as text ({error}): give UTF-8") from error


def read_file(file: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"file {file} does not exist: check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"file {file} cannot be read as text ({error}): give a readable file of UTF-8") from error
