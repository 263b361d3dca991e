"""The fields of every endpoint, as a table: what docs/serving.md shows."""

from __future__ import annotations

from collections.abc import Iterator

from outrider.server.bodies import Body, Refusal
from outrider.server.dialects.anthropic import MessagesBody
from outrider.server.dialects.chat import ChatBody
from outrider.server.dialects.completions import CompletionBody
from outrider.server.dialects.responses import ResponsesBody
from outrider.server.dialects.tokens import DetokenizeBody, TokenizeBody

BODIES: dict[str, type[Body]] = {
    "/v1/chat/completions": ChatBody,
    "/v1/completions": CompletionBody,
    "/v1/responses": ResponsesBody,
    "/v1/messages": MessagesBody,
    "/tokenize": TokenizeBody,
    "/detokenize": DetokenizeBody,
}


def tables() -> str:
    """A table for each endpoint, in Markdown."""
    return "\n\n".join(f"#### POST {path}\n\n{table_of(body)}" for path, body in BODIES.items())


def table_of(body: type[Body]) -> str:
    """The fields of a body: supported, ignored and refused ones."""
    return "\n".join(["| field | | |", "|---|---|---|", *_rows(body)])


def _rows(body: type[Body]) -> Iterator[str]:
    for name, field in body.model_fields.items():
        yield f"| `{field.alias or name}` | supported | {field.description} |"
    for name, why in body.IGNORED.items():
        yield f"| `{name}` | ignored, and named in `x-outrider-ignored` | {why} |"
    for name, refusal in body.REFUSED.items():
        yield f"| `{name}` | refused{_unless(refusal)} | {refusal.why} |"


def _unless(refusal: Refusal) -> str:
    shown = [f"`{_json(value)}`" for value in refusal.neutral if not isinstance(value, float)]
    return f", unless {' or '.join(shown)}" if shown else ""


def _json(value: object) -> str:
    from pydantic_core import to_json

    return to_json(value).decode()
