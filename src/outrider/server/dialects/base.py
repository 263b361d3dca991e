"""What a dialect consists of: bodies that say what is asked, replies to them, and a shape of errors."""

from __future__ import annotations

from typing import Any, Protocol

from outrider.server.answers import Answers
from outrider.server.asked import Asked
from outrider.server.bodies import Body
from outrider.server.errors import ApiError
from outrider.server.replies import Events
from outrider.server.service import Service


class TextBody(Body):
    """A body that asks for texts."""

    stream: bool | None = None

    def asked(self, service: Service) -> Asked:
        """What is asked for.

        Raises:
            ApiError, OutriderError: something cannot be followed.
        """
        raise NotImplementedError


class Reply(Protocol):
    """The replies to one request."""

    async def whole(self, answers: Answers) -> dict[str, Any]:
        """One JSON object, once all texts have ended."""

    def stream(self, answers: Answers) -> Events:
        """Server-sent events, as the texts come."""


class Dialect(Protocol):
    """How errors are told."""

    def error(self, error: ApiError) -> dict[str, Any]:
        """The body of a reply."""

    def error_event(self, error: ApiError, sent: int) -> bytes:
        """The end of a stream that failed, after so many events."""
