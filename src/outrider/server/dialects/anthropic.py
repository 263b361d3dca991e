"""Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from secrets import token_hex
from typing import Any, ClassVar

from pydantic import Field

from outrider.engine.events import FinishReason
from outrider.errors import shown
from outrider.prompts.request import Request
from outrider.prompts.schema import Number, Strings, Text
from outrider.server.answers import Answers
from outrider.server.asked import Asked
from outrider.server.bodies import Part, Refusal
from outrider.server.dialects.base import TextBody
from outrider.server.dialects.limited import require_model, require_stops, sampling_of, speculation_of
from outrider.server.dialects.settings import OF_VLLM, Speculative
from outrider.server.dialects.tools import tool_choice
from outrider.server.errors import ApiError, refused
from outrider.server.reading import AnswerReading, with_calls_written
from outrider.server.replies import event
from outrider.server.service import Service
from outrider.structured.answers import CallArguments, CallBegins, CallEnds, Content, Piece, Reasoning

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
CHOICES = {"auto": "auto", "any": "required", "none": "none"}


class Turn(Part):
    role: Text
    content: Any


class MessagesBody(TextBody):
    """POST /v1/messages."""

    model: Text | None = Field(default=None, description="One of the names in /v1/models.")
    messages: list[Turn] = Field(description="Text, or blocks of type `text`, `tool_use`, `tool_result`, `thinking`.")
    max_tokens: int = Field(description="The most tokens; cut to what fits into a row.")
    system: Any = Field(default=None, description="Text, or blocks of type `text`.")
    stop_sequences: Strings | None = Field(default=None, description="A list of texts.")
    stream: bool | None = Field(default=None, description="Server-sent events, as Anthropic names them.")
    temperature: Number | None = Field(default=None, description="0 is greedy.")
    top_p: Number | None = Field(default=None, description="As Anthropic.")
    top_k: int | None = Field(default=None, description="As Anthropic.")
    tools: list[dict[str, Any]] | None = Field(default=None, description="With `name` and `input_schema`.")
    tool_choice: dict[str, Any] | None = Field(default=None, description="`auto`, `any`, `tool` or `none`.")
    seed: int | None = Field(default=None, description="Our own: reproduces a text.")
    speculative: Speculative | bool | None = Field(default=None, description="Our own: as in chat completions.")

    IGNORED: ClassVar[Mapping[str, str]] = {
        "metadata": "nothing is kept about users",
        "service_tier": "there is one",
        "thinking": "whether a model thinks is up to its template",
        "cache_control": "the cache finds prompts by their text",
        "context_management": "messages are taken as they come",
        "betas": "there are none",
        "diagnostics": "there are none",
        "inference_geo": "the server is where it is",
        "speed": "it is as fast as it can",
        "user_profile_id": "nothing is kept about users",
        "workspace_id": "there are none",
        "billing_policy": "nothing is billed",
        "fallback_credit_token": "nothing is billed",
    }
    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "mcp_servers": Refusal("no other servers are asked", ([],)),
        "container": Refusal("there are no containers"),
        "output_config": Refusal("use response_format of /v1/chat/completions", ({},)),
        "output_format": Refusal("use response_format of /v1/chat/completions"),
        "compaction": Refusal("prompts are not cut: send a shorter one"),
        "fallbacks": Refusal("there is one model", ([],)),
        "thread": Refusal("nothing is stored: send the whole conversation as messages"),
        "cache_salt": Refusal("use /v1/chat/completions"),
        "chat_template_kwargs": Refusal("the model's own template is used", ({},)),
        **OF_VLLM,
    }

    def asked(self, service: Service) -> Asked:
        ignored = self.ignored()
        require_model(self.model, service)
        if not self.messages:
            raise refused("messages is empty: give at least one", "messages")
        wanted = self.tool_choice or {}
        kind = wanted.get("type", "auto")
        if kind not in (*CHOICES, "tool"):
            raise refused(f"tool_choice.type is {shown(kind)}: it must be auto, any, tool or none", "tool_choice.type")
        choice = tool_choice(
            [_tool(tool) for tool in self.tools or ()],
            {"type": "function", "name": wanted.get("name")} if kind == "tool" else CHOICES[kind],
            not wanted.get("disable_parallel_tool_use", False),
        )
        stops = tuple(self.stop_sequences or ())
        require_stops(stops, service, "stop_sequences")
        template = service.tokenizer.chat_template
        request = Request(
            [with_calls_written(message, template) for message in self._conversation()],
            max_tokens=self.max_tokens,
            sampling=sampling_of(
                service, seed=self.seed, temperature=self.temperature, top_p=self.top_p, top_k=self.top_k
            ),
            stop=stops,
            structured=choice.grammar(service),
            tools=choice.tools,
            **speculation_of(self.speculative, self.seed, service),
        )
        return Asked([request], ignored=ignored, tools=choice.tools)

    def _conversation(self) -> list[dict[str, Any]]:
        found = [] if self.system is None else [{"role": "system", "content": _text(self.system, "system")}]
        for turn in self.messages:
            if turn.role not in ("user", "assistant", "system"):
                raise refused(f"a message has the role {shown(turn.role)}: it must be user or assistant", "messages")
            found += _messages_of(turn)
        return found


def _messages_of(turn: Turn) -> list[dict[str, Any]]:
    """The messages that a turn of blocks stands for: results of tools are messages of their own."""
    if isinstance(turn.content, str):
        return [{"role": turn.role, "content": turn.content}]
    if not isinstance(turn.content, list) or not turn.content:
        raise refused(f"messages.content is {shown(turn.content)}: it must be a text, or blocks", "messages")
    results: list[dict[str, Any]] = []
    texts: list[str] = []
    calls: list[dict[str, Any]] = []
    for block in turn.content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif kind == "tool_result":
            text = _text(block.get("content") or "", "messages.content")
            results.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
        elif kind == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in ("thinking", "redacted_thinking"):  # which templates leave out of earlier turns
            raise refused(
                f"messages.content has a block of type {shown(kind)}: this server reads text alone", "messages"
            )
    if not (texts or calls):
        return results
    message: dict[str, Any] = {"role": turn.role, "content": "".join(texts)}
    return [*results, {**message, "tool_calls": calls} if calls else message]


def _text(content: Any, name: str) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    for block in blocks:
        if not isinstance(block, dict) or block.get("type") != "text" or not isinstance(block.get("text"), str):
            raise refused(f"{name} has {shown(block)}: it must be a text, or blocks of type text", name)
    return "".join(block["text"] for block in blocks)


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type", "custom") != "custom":
        raise refused(f"a tool has the type {shown(tool['type'])}: this server has no tools of its own", "tools")
    if not isinstance(tool.get("name"), str) or not tool["name"]:
        raise refused(f"the tool {shown(tool)} has no name: give one", "tools")
    function = {"name": tool["name"], "parameters": tool.get("input_schema")}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


class MessagesReply:
    """The replies to one request for a message."""

    def __init__(self, body: MessagesBody, asked: Asked, service: Service) -> None:
        self._asked = asked
        self._service = service
        self._head = {"id": f"msg_{token_hex(12)}", "type": "message", "role": "assistant", "model": service.model}

    async def whole(self, answers: Answers) -> dict[str, Any]:
        reading = self._reading(answers)
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                reading.read(step)
        said = reading.said
        content: list[dict[str, Any]] = []
        if said.reasoning:
            content.append({"type": "thinking", "thinking": said.reasoning, "signature": ""})
        if said.content or not said.calls:
            content.append({"type": "text", "text": said.content})
        for call in said.calls:
            content.append({"type": "tool_use", "id": call.id, "name": call.name, "input": _input(call.arguments)})
        return {**self._head, "content": content, **self._ending(reading), "usage": _usage(reading)}

    async def stream(self, answers: Answers) -> AsyncGenerator[bytes, None]:
        reading = self._reading(answers)
        empty: dict[str, Any] = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": _usage(reading)}
        yield _event("message_start", message={**self._head, **empty})
        blocks = _Blocks()
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                for piece in reading.read(step):
                    for each in blocks.of(piece, reading):
                        yield each
        for each in blocks.ending():
            yield each
        yield _event("message_delta", delta=self._ending(reading), usage=_usage(reading))
        yield _event("message_stop")

    def _reading(self, answers: Answers) -> AnswerReading:
        return AnswerReading(answers.all[0], self._service, self._asked.tools)

    def _ending(self, reading: AnswerReading) -> dict[str, Any]:
        if reading.finish_reason is FinishReason.LENGTH:
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if reading.said.calls:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        found = reading.answer.stop_string(self._service.tokenizer)
        return {"stop_reason": "end_turn" if found is None else "stop_sequence", "stop_sequence": found}


class _Blocks:
    """The events of content blocks, one open at a time."""

    def __init__(self) -> None:
        self._index = -1
        self._open = ""

    def of(self, piece: Piece, reading: AnswerReading) -> list[bytes]:
        if isinstance(piece, Content):
            return self._add("text", {"text": ""}, {"type": "text_delta", "text": piece.text})
        if isinstance(piece, Reasoning):
            empty = {"thinking": "", "signature": ""}
            return self._add("thinking", empty, {"type": "thinking_delta", "thinking": piece.text})
        if isinstance(piece, CallBegins):
            call = reading.said.calls[piece.call]
            return [*self.ending(), self._start("tool_use", {"id": call.id, "name": call.name, "input": {}})]
        if isinstance(piece, CallArguments):
            return [self._delta({"type": "input_json_delta", "partial_json": piece.text})]
        assert isinstance(piece, CallEnds)
        return self.ending()

    def ending(self) -> list[bytes]:
        if not self._open:
            return []
        self._open = ""
        return [_event("content_block_stop", index=self._index)]

    def _add(self, kind: str, empty: Mapping[str, Any], delta: Mapping[str, Any]) -> list[bytes]:
        begun = [] if self._open == kind else [*self.ending(), self._start(kind, empty)]
        return [*begun, self._delta(delta)]

    def _start(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        self._index += 1
        self._open = kind
        return _event("content_block_start", index=self._index, content_block={"type": kind, **fields})

    def _delta(self, delta: Mapping[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


class Anthropic:
    """Errors as Anthropic's clients read them."""

    def error(self, error: ApiError) -> dict[str, Any]:
        kind = ERRORS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": str(error)}}

    def error_event(self, error: ApiError, sent: int) -> bytes:
        return event(self.error(error), "error")


def _event(name: str, **fields: Any) -> bytes:
    return event({"type": name, **fields}, name)


def _usage(reading: AnswerReading) -> dict[str, Any]:
    answer = reading.answer
    cached = answer.stats.cached_tokens
    return {
        "input_tokens": len(answer.prepared.prompt) - cached,
        "cache_read_input_tokens": cached,
        "output_tokens": len(answer.tokens),
        "output_tokens_details": {"thinking_tokens": reading.reasoning_tokens},
    }


def _input(arguments: str) -> Any:
    """The arguments as an object; as they are where the answer ended before they did."""
    try:
        return json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return {"incomplete": arguments}
