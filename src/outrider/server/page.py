"""The web page: static files that work offline, and what a browser may do with them."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from importlib.resources import files

from fastapi import APIRouter, Response

from outrider.server.endpoints import READING

HOME = "index.html"
# All code and style comes from this server, as files; the page talks to this server alone, and nobody may frame it.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
TYPES = {".js": "text/javascript"}  # which Windows' registry may say otherwise


def page_router() -> APIRouter:
    """Routes to the page, at `/`, and to each of its files.

    They are few and small, so they are read once, and only they can be asked for.
    """
    router = APIRouter(include_in_schema=False)
    folder = files("outrider.server") / "static"
    for file in folder.iterdir():
        answer = _answering(file.read_bytes(), _type_of(file.name))
        router.add_api_route(f"/{file.name}", answer, methods=READING)
        if file.name == HOME:
            router.add_api_route("/", answer, methods=READING)
    return router


def _answering(content: bytes, kind: str) -> Callable[[], Response]:
    return lambda: Response(content, media_type=kind, headers=HEADERS)


def _type_of(name: str) -> str:
    suffix = name[name.rindex(".") :]
    return TYPES.get(suffix) or mimetypes.types_map[suffix]
