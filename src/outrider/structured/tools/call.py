"""One tool call, read character by character: its name first, then its arguments as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Protocol

from outrider.structured.answers import CallArguments, CallBegins, CallEnds, Piece

NAME = "name"
ARGUMENTS = ("arguments", "parameters", "args")
BESIDE = ("type", "id", "index")  # other keys that a call may begin with
OPENING, CLOSING = "{[", "}]"


class Call(Protocol):
    """A call while it is read.

    Attributes:
        text: what was read of it.
        begun: whether its name is known.
        done: whether it is complete.
        wrong: whether it is certainly no call.
    """

    text: str
    begun: bool
    done: bool

    @property
    def wrong(self) -> bool: ...

    def push(self, character: str) -> Iterator[Piece]: ...


class Nesting:
    """How deep a place in JSON is nested, and whether it is in a string."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self._escaped = False

    def push(self, character: str) -> None:
        if self.in_string:
            self.in_string = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character == '"':
            self.in_string = True
        elif character in OPENING:
            self.depth += 1
        elif character in CLOSING:
            self.depth -= 1


class JsonCall:
    """A call that is an object: {"name": "f", "arguments": {...}}, in any order of its keys.

    Args:
        call: its number.
    """

    def __init__(self, call: int) -> None:
        self.text = ""
        self.begun = self.done = False
        self._call = call
        self._nesting = Nesting()
        self._keys: list[str] = []
        self._is_key = True  # what is read: a key, or the value of the last one
        self._part = ""
        self._before_the_name: str | None = None  # arguments that came early
        self._told = False  # whether arguments were told

    @property
    def wrong(self) -> bool:
        """Whether its first key is none that a call begins with."""
        return bool(self._keys) and self._keys[0] not in (NAME, *ARGUMENTS, *BESIDE)

    def push(self, character: str) -> Iterator[Piece]:
        self.text += character
        separates = self._nesting.depth == 1 and not self._nesting.in_string and character in ":,}"
        self._nesting.push(character)
        if separates:
            yield from self._separate(character)
        elif len(self.text) > 1 and not (character.isspace() and not self._part):
            self._part += character
            if self._streams:
                self._told = True
                yield CallArguments(self._call, character)

    @property
    def _streams(self) -> bool:
        """Whether a value is told as it comes: the arguments, where they are an object and the name is known."""
        return self.begun and not self._is_key and self._keys[-1] in ARGUMENTS and self._part.startswith("{")

    def _separate(self, character: str) -> Iterator[Piece]:
        """A key, a value or the whole object ends."""
        if character == ":" and self._is_key:
            self._keys.append(_string(self._part) or "")
        elif not self._is_key:
            yield from self._end_value(self._keys[-1])
        self._is_key, self._part = character != ":", ""
        if character == "}":
            self.done = True
            if self.begun:
                if not self._told:
                    yield CallArguments(self._call, "{}")
                yield CallEnds(self._call)

    def _end_value(self, key: str) -> Iterator[Piece]:
        if key == NAME and not self.begun:
            name = _string(self._part)
            if name:
                self.begun = True
                yield CallBegins(self._call, name)
                yield from self._tell(self._before_the_name)
        elif key in ARGUMENTS and not self._streams:
            written = _string(self._part)  # some models write the object into a string
            value = self._part.strip() if written is None else written
            if self.begun:
                yield from self._tell(value)
            else:
                self._before_the_name = value

    def _tell(self, arguments: str | None) -> Iterator[Piece]:
        if arguments and arguments != "null":
            self._told = True
            yield CallArguments(self._call, arguments)


class MarkedCall:
    """A call whose name stands before its arguments: f[ARGS]{...}, or f[CALL_ID]abc[ARGS]{...}.

    Args:
        call: its number.
    """

    wrong = False

    def __init__(self, call: int) -> None:
        self.text = ""
        self.begun = self.done = False
        self._call = call
        self._nesting = Nesting()

    def push(self, character: str) -> Iterator[Piece]:
        name = self.text.partition("[")[0].strip()
        self.text += character
        if not self.begun:
            if character != "{":
                return
            self.begun = True
            yield CallBegins(self._call, name)
        self._nesting.push(character)
        yield CallArguments(self._call, character)
        if self._nesting.depth == 0 and not self._nesting.in_string:
            self.done = True
            yield CallEnds(self._call)


def _string(text: str) -> str | None:
    """The string that a piece of JSON is; None where it is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None
