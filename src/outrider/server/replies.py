"""Replies: a JSON object, or a stream of server-sent events, for clients that may leave or stall at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from pydantic_core import to_json
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
Events = AsyncGenerator[bytes, None]
LOOKS = 4  # within the time in which a client must read


class JsonReply(Response):
    """A JSON object."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content)


class EventStream(Response):
    """Server-sent events, each as it is given.

    A client that leaves, or leaves unread what was sent to it, ends the stream. What waits for a slow client is bounded
    by what its own texts may have, since nothing more is taken from the events before the last one is on its way.

    Args:
        events: whole events, as bytes; closed in any case.
        stalled_seconds: how long one event may take to be sent.
        close: called at the end, however it comes.
        sleep: waits so many seconds.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: Events,
        stalled_seconds: float,
        headers: Mapping[str, str],
        close: Callable[[], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._events = events
        self._stalled_seconds = stalled_seconds
        self._close = close
        self._sleep = sleep
        self._sent = 0  # events
        self._waits = False  # whether the last of them is still on its way
        self._looks = 0  # how often it was found there

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(_left(receive))
        sending = asyncio.create_task(self._send_all(send))
        stalling = asyncio.create_task(self._stalled())
        tasks = (leaving, sending, stalling)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._close()
        if not sending.cancelled() and (error := sending.exception()) is not None:
            if isinstance(error, OSError):
                return  # nobody reads: the connection is closed without an end
            raise error

    async def _send_all(self, send: Send) -> None:
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in events:
                self._sent += 1
                self._waits = True
                await send({"type": "http.response.body", "body": event, "more_body": True})
                self._waits = False
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stalled(self) -> None:
        """Ends once an event has waited for its client too long. One timer for all events costs less than one each."""
        while True:
            sent, waited = self._sent, self._waits
            await self._sleep(self._stalled_seconds / LOOKS)
            if not (waited and self._waits and sent == self._sent):
                self._looks = 0
                continue
            self._looks += 1
            if self._looks >= LOOKS:
                return


async def unless_left(request: Request, work: Awaitable[T]) -> T:
    """The result of some work, which is cancelled if the client leaves.

    Raises:
        ClientDisconnect: it left.
    """
    leaving = asyncio.create_task(_left(request.receive))
    working = asyncio.ensure_future(work)
    try:
        await asyncio.wait((leaving, working), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(leaving, working, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(data: Any, name: str | None = None) -> bytes:
    """A server-sent event whose data is a JSON object."""
    lines = b"data: " + to_json(data) + b"\n\n"
    return lines if name is None else b"event: " + name.encode() + b"\n" + lines
