"""What the host does while the device works."""

from __future__ import annotations

from collections.abc import Callable

Work = Callable[[], None]


class Meanwhile:
    """Work that needs no result of the round that runs: it is done when the device has been given a pass to compute.

    Args:
        waits: whether passes return before the device is done. Where they do not, work is done at once.
    """

    def __init__(self, waits: bool) -> None:
        self._waits = waits
        self._work: list[Work] = []
        self._error: Exception | None = None

    def add(self, work: Work) -> None:
        """Do it while the device works the next time, after what was added before."""
        if self._waits:
            self._work.append(work)
        else:
            work()

    def do(self) -> None:
        """Do all of it now. An error is kept for `check`, so that it does not fail the pass that runs."""
        while self._work:
            try:
                self._work.pop(0)()
            except Exception as error:
                self._error = self._error or error

    def check(self) -> None:
        """Raise the first error that was kept."""
        error, self._error = self._error, None
        if error is not None:
            raise error
