"""The pipe to the parent: a line of JSON for each thing that was seen."""

from __future__ import annotations

import json
import math
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_FRAMES = 3
LONGEST = 300  # characters of a message of the file's
# Taken before the file runs: it may change modules that it shares with us.
_write, _exit, _pid, _clock = os.write, os._exit, os.getpid, time.monotonic
_PROCESS = os.getpid()
_encode = json.JSONEncoder().encode


class Halt(Exception):
    """What is to be said was said; the rest of this task cannot be observed."""


class Misfit(Exception):
    """A result is not of the form that the chapter asks for.

    Attributes:
        mistake: its key.
    """

    def __init__(self, message: str, mistake: str = "shape") -> None:
        super().__init__(message)
        self.mistake = mistake


def end_copies() -> None:
    """End this process if it is a copy that the file has forked."""
    if _pid() != _PROCESS:
        _exit(0)


class Channel:
    """Tells the parent what is seen.

    Args:
        pipe: a file descriptor.
        seconds: how long to observe, from `start`.
        last: when all must be over, whatever `start` was.
    """

    def __init__(self, pipe: int, seconds: float, last: float = math.inf) -> None:
        self._pipe = pipe
        self._seconds = seconds
        self._last = last
        self.start()

    def start(self) -> None:
        """The observations begin now."""
        self._seconds = max(min(self._seconds, self._last - _clock()), 0.1)
        self._end = _clock() + self._seconds

    def send(self, kind: str, **values: Any) -> None:
        """Write one message."""
        end_copies()
        line = (_encode({"kind": kind, **values}) + "\n").encode()
        while line:
            line = line[_write(self._pipe, line) :]

    def stage(self, what: str) -> None:
        """Say what comes now, in words that follow "while"."""
        self.send("stage", what=what)

    def until(self, share: float) -> float:
        """When a part of the observations must be over: this share of all seconds from now, and not after the end."""
        return min(_clock() + share * self._seconds, self._end)

    @staticmethod
    def now() -> float:
        return _clock()

    @contextmanager
    def guarded(self, path: Path) -> Iterator[None]:
        """Whatever is raised inside is told.

        Raises:
            Halt: something was.
        """
        try:
            yield
        except Halt:
            raise
        except BaseException as error:
            self.send("problem", **described(error, path))
            raise Halt from None


def described(error: BaseException, path: Path) -> dict[str, Any]:
    """An error in plain data: what it says, and where in the file it was raised."""
    if isinstance(error, Misfit):
        return {"mistake": error.mistake, "error": str(error), "lines": []}
    if isinstance(error, SystemExit):
        return {"mistake": "dies", "error": "it calls sys.exit", "lines": _lines(error, path)}
    if isinstance(error, KeyboardInterrupt):
        return {"mistake": "dies", "error": "it raises KeyboardInterrupt", "lines": _lines(error, path)}
    try:
        message = str(error)
    except BaseException:
        message = "(its message cannot be shown)"
    said = f"{type(error).__name__}: {' '.join(message.split())}" if message.strip() else type(error).__name__
    return {"mistake": "fails", "error": said[:LONGEST], "lines": _lines(error, path)}


def _lines(error: BaseException, path: Path) -> list[list[Any]]:
    """[line, function, its text] of the last frames in the file."""
    if isinstance(error, SyntaxError):
        return [[error.lineno or 0, "", (error.text or "").strip()[:LONGEST]]] if error.filename == str(path) else []
    try:
        frames = traceback.extract_tb(error.__traceback__)
    except BaseException:
        return []
    own = [frame for frame in frames if frame.filename == str(path)][-MOST_FRAMES:]
    return [[frame.lineno or 0, frame.name, (frame.line or "")[:LONGEST]] for frame in own]
