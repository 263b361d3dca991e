"""Connections that nobody can hold for nothing: heads of requests are short and come in time, idle ones give way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outrider.server.bodies import GRACE

HEAD_SECONDS = 30.0  # until the head of a request must have come
HEAD_BYTES = 2**16
MOST_CONNECTIONS = 4096
SPARE_FILES = 128  # that the server itself may have open


def most_connections() -> int:
    """As many as the process may have files open, after it was allowed as many as it may be."""
    try:
        import resource
    except ImportError:  # Windows
        return MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        return max(allowed - SPARE_FILES, 1)
    return MOST_CONNECTIONS


def careful(most: int, seconds: float = HEAD_SECONDS, head_bytes: int = HEAD_BYTES) -> Callable[..., asyncio.Protocol]:
    """What uvicorn makes for each connection.

    Args:
        most: connections at once. One more closes the one that has been idle for longest.
        seconds: until the head of a request must have come.
        head_bytes: that it may have.
    """
    idle: dict[HttpToolsProtocol, None] = {}  # those without a request, the oldest first

    class Careful(HttpToolsProtocol):
        _late: asyncio.TimerHandle | None = None
        _heading = False  # whether a head has begun and not ended
        _head = 0  # bytes of it

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            idle[self] = None
            self._expect_head()
            if len(self.connections) > most:
                oldest = next(iter(idle))
                del idle[oldest]
                oldest.transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._no_longer_idle()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self in idle:
                self._expect_head()
            super().data_received(data)
            if self._heading:
                self._head += len(data)
                if self._head > head_bytes and not self.transport.is_closing():
                    self.send_400_response(f"The head of the request is longer than {head_bytes} bytes.")

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._heading, self._head = True, 0

        def on_headers_complete(self) -> None:
            self._heading = False
            self._no_longer_idle()
            super().on_headers_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle.response_complete and not self.transport.is_closing():  # no other one was waiting
                idle[self] = None

        def _expect_head(self) -> None:
            if self._late is None:
                self._late = self.loop.call_later(seconds, self._is_late)

        def _is_late(self) -> None:
            self._late = self.loop.call_later(GRACE, self.transport.close)

        def _no_longer_idle(self) -> None:
            idle.pop(self, None)
            if self._late is not None:
                self._late.cancel()
                self._late = None

    return Careful
