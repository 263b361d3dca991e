"""Answers read as they come: content, reasoning and tool calls, in whatever form the model writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any

from outrider.engine.events import FinishReason
from outrider.errors import shown
from outrider.server.answers import Answer, Step
from outrider.server.errors import refused
from outrider.server.service import Service
from outrider.structured.answers import CallArguments, CallBegins, Content, Piece, Reasoning
from outrider.structured.reasoning import opened_tag
from outrider.structured.tools import AnswerReader, Tool, ToolFormat, function_of, takes_tools, tool_format


@dataclass(slots=True)
class Call:
    """One tool call of an answer."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Said:
    """What an answer consists of, as far as it was read.

    Attributes:
        content, reasoning: text.
        calls: of tools.
    """

    content: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        if isinstance(piece, Content):
            self.content += piece.text
        elif isinstance(piece, Reasoning):
            self.reasoning += piece.text
        elif isinstance(piece, CallBegins):
            self.calls.append(Call(f"call_{token_hex(12)}", piece.name))
        elif isinstance(piece, CallArguments):
            self.calls[piece.call].arguments += piece.text


class AnswerReading:
    """Reads one answer step by step.

    Args:
        tools: that the model may call.

    Attributes:
        said: what it consists of so far.
        events: its tokens so far.
        steps: of it, so far.
    """

    def __init__(self, answer: Answer, service: Service, tools: Sequence[Tool]) -> None:
        self.answer = answer
        self.said = Said()
        self.steps: list[Step] = []
        self._reader: AnswerReader | None = None
        if tools or service.reasons:
            tokenizer = service.tokenizer
            self._reader = AnswerReader(
                tokenizer,
                tool_format(tokenizer.chat_template) if tools else None,
                opened=opened_tag(answer.prepared.prompt, tokenizer),
                reasoning=service.reasons,
                names=[function_of(tool)["name"] for tool in tools],
            )

    def read(self, step: Step) -> list[Piece]:
        """The pieces that a step completes."""
        self.steps.append(step)
        pieces = self._pieces(step)
        for piece in pieces:
            self.said.add(piece)
        return pieces

    @property
    def reasoning_tokens(self) -> int:
        """How many of the tokens so far were spent on thinking, tags included."""
        return 0 if self._reader is None else self._reader.reasoning_tokens

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.answer.finish_reason

    def _pieces(self, step: Step) -> list[Piece]:
        reader = self._reader
        if reader is None:
            text = step.text
            return [Content(text)] if text else []
        pieces = [piece for event in step.events for piece in reader.push(event.token, event.text)]
        return pieces if step.finish_reason is None else [*pieces, *reader.finish()]


def with_calls_written(message: Mapping[str, Any], chat_template: str | None) -> dict[str, Any]:
    """A message with its tool calls as text, for a model whose template knows none.

    Raises:
        ApiError, SettingError: its calls are no calls.
    """
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise refused(f"a message has tool_calls {shown(calls)}: they must be a list", "messages")
    for call in calls or ():
        function_of(call)
    if not calls or takes_tools(chat_template):
        return dict(message)
    format = tool_format(chat_template)
    written = [_written(call, format) for call in calls]
    text = f"{format.opens}[{', '.join(written)}]{format.closes}"
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**rest, "content": f"{message['content']}{text}"}


def _written(call: Any, format: ToolFormat) -> str:
    function = function_of(call)
    arguments = function.get("arguments") or "{}"
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f'{{"name": {json.dumps(function["name"])}, "{format.arguments}": {shown}}}'
