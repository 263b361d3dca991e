"""The door: takes requests, hands each to a replica, and hands the reply on."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from outrider.fleet.figures import Figures
from outrider.fleet.replicas import Replica, Replicas
from outrider.fleet.routes import keys_of
from outrider.server.app import dialect_of, not_found
from outrider.server.bodies import Bodies
from outrider.server.dialects.base import Dialect
from outrider.server.endpoints import CLIENT_LEFT, READING, told
from outrider.server.errors import ApiError
from outrider.server.limits import Limits
from outrider.server.replies import EventStream, JsonReply, unless_left

METRICS_SECONDS = 5.0  # until a replica that tells no figures is left out
ATTEMPTS = 3  # replicas that a request is sent to, where they are lost before they answer
# Of a connection and not of a request (RFC 9110, section 7.6.1), or set by whoever sends on.
OF_A_CONNECTION = frozenset(
    ("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length", "date")
)
EVENTS = "text/event-stream"
END = b"\n\n"  # of an event
KEY_HEADERS = ("authorization", "x-api-key")


def create_door(
    replicas: Replicas,
    first: Sequence[tuple[Any, str]],
    limits: Limits,
    cors_origins: Sequence[str] = (),
    transport: httpx.AsyncBaseTransport | None = None,
) -> FastAPI:
    """The application. It ends the replicas when it ends; SIGHUP renews them.

    Args:
        first: handles and URLs of the replicas that serve already.
        cors_origins: as for `create_app`.
        transport: how replicas are reached; None is HTTP.
    """
    connections = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    client = httpx.AsyncClient(timeout=None, limits=connections, transport=transport)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        await replicas.open(first)
        loop.add_signal_handler(signal.SIGHUP, replicas.renew_in_background)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            replicas.close()
            await client.aclose()

    app = FastAPI(title="Outrider", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    door = Door(replicas, client, limits)
    app.add_api_route("/health", door.health, methods=READING, response_model=None)
    app.add_api_route("/metrics", door.metrics, methods=READING, response_model=None)
    app.add_api_route("/{path:path}", door.hand_on, methods=["GET", "POST", "OPTIONS", "HEAD"], response_model=None)
    app.add_exception_handler(HTTPException, not_found)
    if cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(cors_origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    return app


class Door:
    """Hands requests on."""

    def __init__(self, replicas: Replicas, client: httpx.AsyncClient, limits: Limits) -> None:
        self._replicas, self._client, self._limits = replicas, client, limits
        self._bodies = Bodies(limits)
        self._figures = Figures()

    async def health(self) -> Response:
        ready = len(self._replicas.ready)
        return JsonReply({"status": "ok" if ready else "no replica", "replicas": ready}, 200 if ready else 503)

    async def metrics(self, request: Request) -> Response:
        """The figures of all replicas together; where they ask for a key that is not shown, what they say to that."""
        replicas = self._replicas.all
        replies = await asyncio.gather(*(self._figures_of(replica, request) for replica in replicas))
        told = {}
        for replica, reply in zip(replicas, replies, strict=True):
            if reply is None:
                continue
            if reply.status_code != 200:
                return Response(reply.content, reply.status_code, _passed_on(reply.headers))
            told[replica.number] = reply.text
        numbers = (replica.number for replica in self._replicas.all)
        return Response(self._figures.exposition(told, numbers), media_type=CONTENT_TYPE_LATEST)

    async def _figures_of(self, replica: Replica, request: Request) -> httpx.Response | None:
        headers = {name: value for name, value in request.headers.items() if name in KEY_HEADERS}
        try:
            return await self._client.get(f"{replica.url}/metrics", headers=headers, timeout=METRICS_SECONDS)
        except httpx.TransportError:
            self._replicas.suspect(replica)
            return None

    async def hand_on(self, request: Request) -> Response:
        """The reply of a replica. One that is lost before its reply begins costs nothing: another one is asked."""
        dialect = dialect_of(request.url.path)
        try:
            body = await self._bodies.read(request) if request.method == "POST" else b""
            keys = keys_of(_tenant(request), _fields(body)) if body else []
            return await self._ask(request, body, keys, dialect)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        except Exception as error:
            found = told(error)
            return JsonReply(dialect.error(found), found.status, headers=found.headers)

    async def _ask(self, request: Request, body: bytes, keys: list[bytes], dialect: Dialect) -> Response:
        tried: list[Replica] = []
        for _ in range(ATTEMPTS):
            async with AsyncExitStack() as stack:
                replica = await stack.enter_async_context(self._replicas.taken(keys, tried))
                try:
                    reply = await unless_left(request, self._begin(replica, request, body, stack))
                except httpx.TransportError:
                    self._replicas.suspect(replica)
                    tried.append(replica)
                    continue
                if reply.is_streaming:
                    held = stack.pop_all()
                    return EventStream(
                        reply.events(self._replicas, replica, dialect),
                        self._limits.stalled_seconds,
                        reply.headers,
                        lambda held=held: self._replicas.in_background(held.aclose()),  # type: ignore[misc]
                    )
                self._replicas.served(replica)
                return Response(reply.first, reply.status, reply.headers)
        raise ApiError(503, f"{ATTEMPTS} replicas were lost while they began this text", code="replica_lost")

    async def _begin(self, replica: Replica, request: Request, body: bytes, stack: AsyncExitStack) -> _Reply:
        """The reply, whole; of a stream the first event."""
        url = replica.url + request.url.path + (f"?{request.url.query}" if request.url.query else "")
        asked = self._client.build_request(request.method, url, headers=_passed_on(request.headers), content=body)
        response = await self._client.send(asked, stream=True)
        stack.push_async_callback(response.aclose)
        reply = _Reply(response)
        await reply.begin()
        return reply


class _Reply:
    """What a replica answers.

    Attributes:
        first: the whole body; of a stream its first events.
    """

    def __init__(self, response: httpx.Response) -> None:
        self._chunks = response.aiter_raw()
        self.status = response.status_code
        self.headers = _passed_on(response.headers)
        self.is_streaming = response.headers.get("content-type", "").startswith(EVENTS)
        self.first = b""
        self._rest = b""

    async def begin(self) -> None:
        """Read as much as must be there before anything is handed on.

        Raises:
            httpx.TransportError: the replica is lost.
        """
        async for chunk in self._chunks:
            self.first += chunk
            if self.is_streaming and END in self.first:
                whole, end, self._rest = self.first.rpartition(END)
                self.first = whole + end
                return

    async def events(self, replicas: Replicas, replica: Replica, dialect: Dialect) -> AsyncGenerator[bytes, None]:
        """Whole events. Where the replica is lost, the last one says so."""
        yield self.first
        sent = self.first.count(END)
        try:
            async for chunk in self._chunks:
                whole, end, self._rest = (self._rest + chunk).rpartition(END)
                if end:
                    sent += whole.count(END) + 1
                    yield whole + end
            replicas.served(replica)
        except httpx.TransportError:
            replicas.suspect(replica)
            lost = ApiError(500, "the replica that made this text was lost: ask again", code="replica_lost")
            yield dialect.error_event(lost, sent)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in OF_A_CONNECTION}


def _tenant(request: Request) -> str:
    return request.headers.get("authorization") or request.headers.get("x-api-key") or ""


def _fields(body: bytes) -> Mapping[str, Any]:
    """What stands in a body; nothing where it is no JSON object, which the replica refuses."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
