"""An engine that several streams share: whoever waits for a token runs a round for all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from outrider.engine.engine import Engine
from outrider.engine.events import TokenEvent
from outrider.engine.handle import Handle
from outrider.prompts.request import PreparedRequest


class Desk:
    """Hands every stream the events of its own text."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._unread: dict[int, deque[TokenEvent]] = {}  # by the id of the text

    @property
    def free_rows(self) -> int:
        return self.engine.max_rows - len(self.engine.active) - len(self.engine.waiting)

    def submit(self, request: PreparedRequest) -> Handle:
        """Queue a text; its events are kept for `next_event`."""
        handle = self.engine.submit(request)
        self._unread[handle.id] = deque()
        return handle

    def next_event(self, handle: Handle) -> TokenEvent | None:
        """The next token of a text; None where there is none to come."""
        unread = self._unread.get(handle.id)
        if unread is None:
            return None
        while not unread:
            if handle.finish_reason is not None:
                del self._unread[handle.id]
                return None
            self._step()
        return unread.popleft()

    def reading(self, handle: Handle) -> Iterator[int]:
        """Run rounds until a text has emitted, or ended: how much of its prompt is read after each."""
        while handle.finish_reason is None and not self._unread.get(handle.id, True):
            self._step()
            yield handle.prompt_read

    def _step(self) -> None:
        for event in self.engine.step():
            if event.sequence in self._unread:
                self._unread[event.sequence].append(event)

    def leave(self, handle: Handle) -> None:
        """Nobody waits for this text any more."""
        handle.cancel()
        self._unread.pop(handle.id, None)
