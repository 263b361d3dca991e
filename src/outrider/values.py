"""Checks of what is handed in: each refuses in one line that names the value and the limit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from outrider.errors import SettingError, shown

LARGEST = 2**62  # a whole number beyond it does not fit into the words of other libraries
UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}  # bytes
SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?) ?([a-z]*)")


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number from `least` on, and not a truth value."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def whole(name: str, value: Any, least: int, most: int = LARGEST) -> int:
    """A whole number of any library as one of Python's.

    Raises:
        SettingError: it is none, or out of its range.
    """
    if is_whole(value, least) and value <= most:
        return int(value)
    raise SettingError(f"{name} is {shown(value)}: it must be {_range(value, least, most)}")


def _range(value: Any, least: int, most: int) -> str:
    """What a whole number must be, said as shortly as the value allows."""
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) < least:
        return f"at least {least}"
    return f"a whole number from {least} " + ("on" if most == LARGEST else f"to {most}")


def share(name: str, value: Any) -> float:
    """A number from 0 to 1.

    Raises:
        SettingError: it is none.
    """
    number: Any = value if isinstance(value, Real) else -1
    if 0 <= number <= 1:
        return float(number)
    raise SettingError(f"{name} is {shown(value)}: it must be a number within 0 to 1")


def size_in_bytes(name: str, value: Any) -> int:
    """Bytes from a whole number, or from a text such as "4GiB" or "800 MB".

    Raises:
        SettingError: it is neither, or less than one byte.
    """
    size = int(value) if is_whole(value, 1) else 0
    if isinstance(value, str) and (found := SIZE.fullmatch(value.strip().lower())) and found[2] in UNITS:
        size = int(float(found[1]) * UNITS[found[2]])
    if 1 <= size <= LARGEST:
        return size
    raise SettingError(f"{name} is {shown(value)}: give bytes, or a size such as 4GiB or 800MB")


def require_flag(name: str, value: Any) -> None:
    """Raises SettingError where it is neither True nor False."""
    if not isinstance(value, bool):
        raise SettingError(f"{name} is {shown(value)}: it must be True or False")


def require_function(name: str, value: Any) -> None:
    """Raises SettingError where it cannot be called."""
    if not callable(value):
        raise SettingError(f"{name} is {shown(value)}: it must be a function")


def one_of(name: str, value: Any, known: Sequence[str]) -> None:
    """Raises SettingError where it is none of these words."""
    if not isinstance(value, str) or value not in known:
        raise SettingError(f"{name} {shown(value)} is unknown: choose one of {', '.join(known)}")


def require_word(name: str, value: Any) -> None:
    """Raises SettingError where it is no text."""
    if not isinstance(value, str):
        raise SettingError(f"{name} is {shown(value)}: it must be a text")


def listed(name: str, values: Any, limit: str) -> tuple[Any, ...]:
    """What is given several at a time. Text and bytes are one thing, not several letters.

    Raises:
        SettingError: it cannot be iterated over, or its own iterator fails.
    """
    try:
        if not isinstance(values, str | bytes | bytearray | Mapping):
            return tuple(values)
    except Exception as error:  # of the caller's own iterator, or of an array without axes
        raise SettingError(f"{name} is {shown(values)}: it must be {limit}") from error
    raise SettingError(f"{name} is {shown(values)}: it must be {limit}")
