"""Replies of OpenAI's responses: one object, or the events that build it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from itertools import count
from secrets import token_hex
from typing import Any

from outrider.engine.events import FinishReason
from outrider.server.answers import Answers
from outrider.server.asked import Asked
from outrider.server.dialects.responses import ResponsesBody
from outrider.server.reading import AnswerReading
from outrider.server.replies import event
from outrider.server.service import Service
from outrider.structured.answers import CallArguments, CallBegins, CallEnds, Content, Piece, Reasoning

Item = dict[str, Any]


class ResponsesReply:
    """The replies to one request."""

    def __init__(self, body: ResponsesBody, asked: Asked, service: Service) -> None:
        self._body = body
        self._asked = asked
        self._service = service
        self._id = f"resp_{token_hex(12)}"
        self._created = int(time.time())

    async def whole(self, answers: Answers) -> dict[str, Any]:
        reading = self._reading(answers)
        items = Items()
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                for piece in reading.read(step):
                    items.add(piece, reading)
        items.close(cut=_is_cut(reading))
        return self._response(reading, items)

    async def stream(self, answers: Answers) -> AsyncGenerator[bytes, None]:
        reading = self._reading(answers)
        items = Items()
        numbers = count()

        def named(kind: str, **fields: Any) -> bytes:
            return event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

        yield named("response.created", response=self._response(reading, items))
        yield named("response.in_progress", response=self._response(reading, items))
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                for piece in reading.read(step):
                    for kind, fields in items.add(piece, reading):
                        yield named(kind, **fields)
        for kind, fields in items.close(cut=_is_cut(reading)):
            yield named(kind, **fields)
        response = self._response(reading, items)
        yield named(f"response.{response['status']}", response=response)

    def _reading(self, answers: Answers) -> AnswerReading:
        return AnswerReading(answers.all[0], self._service, self._asked.tools)

    def _response(self, reading: AnswerReading, items: Items) -> dict[str, Any]:
        reason, sampling = reading.finish_reason, reading.answer.prepared.sampling
        cut = _is_cut(reading)
        read, emitted = len(reading.answer.prepared.prompt), len(reading.answer.tokens)
        usage = {
            "input_tokens": read,
            # No token is written to a cache of its own: rows keep what they hold.
            "input_tokens_details": {"cached_tokens": reading.answer.stats.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": emitted,
            "output_tokens_details": {"reasoning_tokens": reading.reasoning_tokens},
            "total_tokens": read + emitted,
        }
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": "in_progress" if reason is None else "incomplete" if cut else "completed",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": self._body.instructions,
            "max_output_tokens": self._body.max_output_tokens,
            "model": self._service.model,
            "output": items.all,
            "parallel_tool_calls": self._body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": self._format()},
            "tool_choice": self._body.tool_choice or "auto",
            "tools": self._body.tools or [],
            "top_p": sampling.top_p,
            "truncation": "disabled",
            "usage": None if reason is None else usage,
            "metadata": {},
        }

    def _format(self) -> dict[str, Any]:
        wanted = None if self._body.text is None else self._body.text.format
        return {"type": "text"} if wanted is None else wanted.model_dump(by_alias=True, exclude_none=True)


def _is_cut(reading: AnswerReading) -> bool:
    return reading.finish_reason is FinishReason.LENGTH


Event = tuple[str, dict[str, Any]]


class Items:
    """The items of a response and the events that build them, one open at a time.

    Attributes:
        all: so far.
    """

    def __init__(self) -> None:
        self.all: list[Item] = []
        self._open = ""

    def add(self, piece: Piece, reading: AnswerReading) -> list[Event]:
        """The events of a piece."""
        if isinstance(piece, Content):
            return [*self._in("message"), *self._more("response.output_text.delta", "text", piece.text)]
        if isinstance(piece, Reasoning):
            return [*self._in("reasoning"), *self._more("response.reasoning_text.delta", "text", piece.text)]
        if isinstance(piece, CallBegins):
            call = reading.said.calls[piece.call]
            return [*self.close(), *self._begin("function_call", call_id=call.id, name=call.name, arguments="")]
        if isinstance(piece, CallArguments):
            self.all[-1]["arguments"] += piece.text
            return [self._event("response.function_call_arguments.delta", item_id=self._id, delta=piece.text)]
        assert isinstance(piece, CallEnds)
        return self.close()

    def close(self, *, cut: bool = False) -> list[Event]:
        """The events that end the open item; cut is one that the most tokens ended."""
        if not self._open:
            return []
        item, kind, self._open = self.all[-1], self._open, ""
        item["status"] = "incomplete" if cut else "completed"
        events: list[Event] = []
        if kind == "function_call":
            done = {"arguments": item["arguments"], "name": item["name"]}
            events.append(self._event("response.function_call_arguments.done", item_id=self._id, **done))
        else:
            part = item["content"][0]
            name = "output_text" if kind == "message" else "reasoning_text"
            done = {"text": part["text"], **({"logprobs": []} if kind == "message" else {})}
            events.append(self._event(f"response.{name}.done", item_id=self._id, content_index=0, **done))
            if kind == "message":
                events.append(self._event("response.content_part.done", item_id=self._id, content_index=0, part=part))
        return [*events, self._event("response.output_item.done", item=item)]

    @property
    def _id(self) -> str:
        return str(self.all[-1]["id"])

    def _in(self, kind: str) -> list[Event]:
        """Open an item of this kind, unless one is open."""
        if self._open == kind:
            return []
        ended = self.close()
        if kind == "reasoning":
            return [*ended, *self._begin(kind, summary=[], content=[{"type": "reasoning_text", "text": ""}])]
        part: Item = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        begun = self._begin(kind, role="assistant", content=[])
        self.all[-1]["content"] = [part]
        added = self._event("response.content_part.added", item_id=self._id, content_index=0, part=dict(part))
        return [*ended, *begun, added]

    def _begin(self, kind: str, **fields: Any) -> list[Event]:
        self._open = kind
        prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}[kind]
        self.all.append({"id": f"{prefix}_{token_hex(12)}", "type": kind, "status": "in_progress", **fields})
        return [self._event("response.output_item.added", item=dict(self.all[-1]))]

    def _more(self, kind: str, name: str, text: str) -> list[Event]:
        self.all[-1]["content"][0][name] += text
        fields: dict[str, Any] = {"item_id": self._id, "content_index": 0, "delta": text}
        if kind == "response.output_text.delta":
            fields["logprobs"] = []
        return [self._event(kind, **fields)]

    def _event(self, kind: str, **fields: Any) -> Event:
        return kind, {"output_index": len(self.all) - 1, **fields}
