"""Bodies of requests: read within limits, and checked field by field.

A `Body` names every field that clients are known to send: those that are supported are its own, those that change
nothing are in IGNORED (replies name them in the header `x-outrider-ignored`), those that cannot be followed are in
REFUSED. A field of any other name is refused: nothing is left out in silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request

from outrider.errors import shown
from outrider.prompts.schema import refusal_of
from outrider.server.errors import ApiError, refused
from outrider.server.limits import Limits

JSON = "application/json"
SHORT = 2**16  # bytes of a body that is always taken
# Seconds after the time is up: where the server itself was held up, what has come meanwhile is read first.
GRACE = 1.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A field that cannot be followed.

    Attributes:
        why: the reason, and what to do.
        neutral: values that ask for nothing, and are taken; null always is.
    """

    why: str
    neutral: tuple[Any, ...] = ()


class Part(BaseModel):
    """An object within a body. Fields of other names are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


class Body(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())

    IGNORED: ClassVar[Mapping[str, str]] = {}
    REFUSED: ClassVar[Mapping[str, Refusal]] = {}

    def ignored(self) -> dict[str, str]:
        """The fields that are left out, with the reason of each.

        Raises:
            ApiError: a field cannot be followed, or is unknown.
        """
        found = {}
        for name, value in (self.model_extra or {}).items():
            refusal = self.REFUSED.get(name)
            if refusal is not None:
                if value is not None and value not in refusal.neutral:
                    raise refused(f"{name} is {shown(value)}: {refusal.why}", name)
            elif name not in self.IGNORED:
                raise refused(f"{name} is no field that this server knows: leave it out", name)
            elif value is not None:
                found[name] = self.IGNORED[name]
        return found


B = TypeVar("B", bound=Body)


class Bodies:
    """Reads the bodies of requests, within limits on each and on all that are on their way.

    Args:
        limits: on requests.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._held = 0  # bytes of all that are on their way

    async def read(self, request: Request) -> bytes:
        """The body of a request.

        Raises:
            ApiError: it is no JSON by its own account, too long, or does not come; or too much comes at once.
            ClientDisconnect: the client left.
        """
        limits = self._limits
        _require_json(request)
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limits.body_bytes:
            raise _too_long(limits)
        pieces: list[bytes] = []
        length = 0
        loop, timeout = asyncio.get_running_loop(), asyncio.timeout(None)
        late = loop.call_later(limits.body_seconds, lambda: timeout.reschedule(loop.time() + GRACE))
        try:
            async with timeout:
                async for piece in request.stream():
                    length += len(piece)
                    self._held += len(piece)
                    if length > limits.body_bytes:
                        raise _too_long(limits)
                    if self._held > limits.bodies_bytes and length > SHORT:
                        raise ApiError(429, "too many long requests come at once: try again later", retry_after=1)
                    pieces.append(piece)
        except TimeoutError as error:
            message = f"the body did not come within {limits.body_seconds:g} seconds: send it again"
            raise ApiError(408, message) from error
        finally:
            late.cancel()
            self._held -= length
        body = b"".join(pieces)
        if (values := body.count(b",")) > limits.values:
            raise ApiError(413, f"the body has {values} commas: at most {limits.values} values are read at once")
        return body


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json"):
        # What a web page of somebody else may send without being asked first is of other kinds.
        raise ApiError(415, f"the body is {kind or 'of no type'}: send it with the header content-type: {JSON}")


def parse(kind: type[B], body: bytes) -> B:
    """The body as its schema says.

    Raises:
        ApiError: it is no JSON, or a field has a wrong value.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise refused(f"the body is no JSON ({first['msg'].removeprefix('Invalid JSON: ')})") from error
        param = ".".join(map(str, first["loc"])) or None
        if first["type"] == "extra_forbidden":
            raise refused(f"{param} is no field that this server knows: leave it out", param) from error
        raise refused(refusal_of(error) if first["loc"] else f"the body{refusal_of(error)}", param) from error


def _too_long(limits: Limits) -> ApiError:
    return ApiError(413, f"the body is longer than {limits.body_bytes} bytes: send less")
