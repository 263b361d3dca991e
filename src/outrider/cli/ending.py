"""SIGTERM, as schedulers and containers send it, ends a command as Ctrl-C does: in good order, with a line.

By itself it would end Python at once: a terminal would stay without its cursor, and half a file would stay on the disk.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from outrider_command import INTERRUPTED

TERMINATED = 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """The process was asked to end."""


class Ending:
    """Whether SIGTERM came."""

    def __init__(self) -> None:
        self._came = False

    def status(self, status: int) -> int:
        """The exit status of a command that ends with this one."""
        return TERMINATED if self._came and status == INTERRUPTED else status

    def end(self, number: int, frame: FrameType | None) -> None:
        """Of SIGTERM; a second one ends the process at once."""
        self._came = True
        signal.signal(number, signal.SIG_DFL)
        raise Terminated


@contextmanager
def ending() -> Iterator[Ending]:
    """While this lasts, SIGTERM raises Terminated. Whoever ignores it, or has a handler, keeps what there is."""
    found = Ending()
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield found
        return
    signal.signal(signal.SIGTERM, found.end)
    try:
        yield found
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
