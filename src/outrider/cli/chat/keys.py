"""Ctrl-C while an answer comes: it stops the answer, not the chat."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

INPUT_MODES, LOCAL_MODES = 0, 3  # in what tcgetattr returns


class Stopped:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self._pressed = False

    def __bool__(self) -> bool:
        return self._pressed

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While this lasts, Ctrl-C says that it was pressed, and ends nothing."""
        self._pressed = False
        before = signal.signal(signal.SIGINT, self._press)
        with ExitStack() as undone:
            undone.callback(signal.signal, signal.SIGINT, before)
            undone.enter_context(_quiet_keys())
            yield

    def _press(self, signal_number: int, frame: FrameType | None) -> None:
        # It raises nothing: whatever is going on ends in good order, between two rounds.
        self._pressed = True


@contextmanager
def _quiet_keys() -> Iterator[None]:
    """Keys are not shown within the answer. Enter stays Enter, which sends the next message, and is no new line."""
    if termios is None or not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    quiet = termios.tcgetattr(sys.stdin)
    quiet[INPUT_MODES] &= ~termios.ICRNL
    quiet[LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
