"""What every endpoint for texts does: check, submit, reply. The dialects fill in the parts."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from outrider.errors import OutriderError
from outrider.server.asked import Asked
from outrider.server.bodies import parse
from outrider.server.dialects.base import Dialect, Reply, TextBody
from outrider.server.errors import ApiError, as_api_error
from outrider.server.replies import Events, EventStream, JsonReply, unless_left
from outrider.server.service import Service

logger = logging.getLogger("outrider")
READING = ["GET", "HEAD"]  # the methods of what is only read: monitors ask HEAD, and browsers before a download
CLIENT_LEFT = 499  # nginx's status; nobody reads it
IGNORED = "x-outrider-ignored"


B = TypeVar("B", bound=TextBody)


class TextEndpoint(Generic[B]):
    """An endpoint that makes texts.

    Args:
        body: the schema of its requests.
        reply: makes the replies to one of them.
    """

    def __init__(
        self, service: Service, dialect: Dialect, body: type[B], reply: Callable[[B, Asked, Service], Reply]
    ) -> None:
        self._service = service
        self._dialect = dialect
        self._body = body
        self._reply = reply

    async def __call__(self, request: Request, tenant: str) -> Response:
        """Raises what `reply_to` turns into replies."""
        service = self._service
        body = parse(self._body, await service.bodies.read(request))
        asked = body.asked(service)
        reply = self._reply(body, asked, service)
        headers = {IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
        answers = await unless_left(request, service.open(asked, tenant))
        if body.stream:
            events = _guarded(reply.stream(answers), self._dialect)
            return EventStream(events, service.settings.limits.stalled_seconds, headers, answers.close)
        with answers:
            return JsonReply(await unless_left(request, reply.whole(answers)), headers=headers)


async def _guarded(events: Events, dialect: Dialect) -> AsyncGenerator[bytes, None]:
    """The events; where the texts fail, the error is the last one."""
    sent = 0
    async with aclosing(events):
        try:
            async for event in events:
                sent += 1
                yield event
        except Exception as error:
            yield dialect.error_event(told(error), sent)


def reply_to(error: Exception, dialect: Dialect, service: Service) -> Response:
    """The reply that says what is wrong."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=CLIENT_LEFT)
    found = told(error)
    refusals = service.metrics.refused_full if found.status == 429 else service.metrics.refused_bad
    refusals.inc()
    return JsonReply(dialect.error(found), found.status, headers=found.headers)


def told(error: Exception) -> ApiError:
    """The error as clients see it; what was not foreseen goes to the log."""
    if not isinstance(error, OutriderError):
        logger.error("a request failed: %r", error, exc_info=error)
    return as_api_error(error)
