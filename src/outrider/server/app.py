"""The web application: paths, keys, and errors in the shape of each dialect."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from outrider.server.dialects.anthropic import Anthropic, MessagesBody, MessagesReply
from outrider.server.dialects.base import Dialect
from outrider.server.dialects.chat import ChatBody, ChatReply
from outrider.server.dialects.completions import CompletionBody, CompletionReply
from outrider.server.dialects.limited import require_model
from outrider.server.dialects.openai import OpenAI, Responses
from outrider.server.dialects.responses import ResponsesBody
from outrider.server.dialects.responses_reply import ResponsesReply
from outrider.server.dialects.tokens import detokenize, tokenize
from outrider.server.endpoints import READING, TextEndpoint, reply_to
from outrider.server.errors import ApiError
from outrider.server.keys import Keys
from outrider.server.page import page_router
from outrider.server.replies import JsonReply
from outrider.server.service import Service

OPENAI, RESPONSES, ANTHROPIC = OpenAI(), Responses(), Anthropic()
Handler = Callable[[Request, str], Awaitable[Response]]


def create_app(service: Service, *, cors_origins: Sequence[str] = ()) -> FastAPI:
    """The application. It closes the service when it ends.

    Args:
        cors_origins: web pages of which origins may ask; none by default.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        yield
        await service.close()

    # Its pages of documentation need a network.
    app = FastAPI(title="Outrider", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    guard = Guard(service)
    for path, (handler, dialect) in _posts(service).items():
        app.add_api_route(path, guard(handler, dialect), methods=["POST"], response_model=None)
    app.add_api_route("/metrics", guard(_metrics(service), OPENAI), methods=READING, response_model=None)
    app.add_api_route("/v1/models", guard(_models(service), OPENAI), methods=READING, response_model=None)
    app.add_api_route("/v1/models/{name:path}", guard(_model(service), OPENAI), methods=READING, response_model=None)
    app.add_api_route("/health", _health(service), methods=READING, response_model=None)
    app.add_exception_handler(HTTPException, not_found)
    app.include_router(page_router())
    if cors_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(cors_origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    return app


def _posts(service: Service) -> dict[str, tuple[Handler, Dialect]]:
    return {
        "/v1/chat/completions": (TextEndpoint(service, OPENAI, ChatBody, ChatReply), OPENAI),
        "/v1/completions": (TextEndpoint(service, OPENAI, CompletionBody, CompletionReply), OPENAI),
        "/v1/responses": (TextEndpoint(service, RESPONSES, ResponsesBody, ResponsesReply), RESPONSES),
        "/v1/messages": (TextEndpoint(service, ANTHROPIC, MessagesBody, MessagesReply), ANTHROPIC),
        "/tokenize": (tokenize(service), OPENAI),
        "/detokenize": (detokenize(service), OPENAI),
    }


class Guard:
    """Lets requests with a key in, and tells errors in the shape of a dialect."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._keys = Keys(service.settings.api_keys)

    def __call__(self, handler: Handler, dialect: Dialect) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                return await handler(request, self._keys.tenant(request.headers))
            except Exception as error:
                return reply_to(error, dialect, self._service)

        return guarded


def _metrics(service: Service) -> Handler:
    async def metrics(request: Request, tenant: str) -> Response:
        return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return metrics


def _models(service: Service) -> Handler:
    async def models(request: Request, tenant: str) -> Response:
        entries = [_described(name, service) for name in service.settings.models]
        return JsonReply({"object": "list", "data": entries})

    return models


def _model(service: Service) -> Handler:
    async def model(request: Request, tenant: str) -> Response:
        name = request.path_params["name"]
        require_model(name, service)
        return JsonReply(_described(name, service))

    return model


def _described(name: str, service: Service) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": service.started,
        "owned_by": "outrider",
        "max_model_len": service.capacity,
        "outrider": {
            "target": service.target.name,
            "drafter": service.drafter,
            "drafters": service.offers.names,
            "rule": service.settings.rule,
            "max_rows": service.max_rows,
        },
    }


def _health(service: Service) -> Callable[[], Awaitable[Response]]:
    async def health() -> Response:
        if not service.alive:
            return JsonReply({"status": "the engine has failed: start the server again"}, 503)
        return JsonReply({"status": "ok"})

    return health


async def not_found(request: Request, error: Any) -> Response:
    """Paths and methods that there are not."""
    message = f"{request.method} {request.url.path}: {error.detail.lower()}"
    found = dialect_of(request.url.path).error(ApiError(error.status_code, message))
    return JsonReply(found, error.status_code, headers=error.headers)


def dialect_of(path: str) -> Dialect:
    """In whose shape errors of a path are told."""
    if path.startswith("/v1/messages"):
        return ANTHROPIC
    return RESPONSES if path.startswith("/v1/responses") else OPENAI
