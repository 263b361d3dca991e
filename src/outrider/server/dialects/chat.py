"""OpenAI's chat completions."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from secrets import token_hex
from typing import Any, ClassVar, TypeGuard

from pydantic import Field
from pydantic_core import to_json

from outrider.engine.events import FinishReason, TokenEvent
from outrider.errors import shown
from outrider.prompts.request import Request
from outrider.prompts.schema import Text
from outrider.server.answers import Answers, Step
from outrider.server.asked import Asked
from outrider.server.bodies import Part, Refusal
from outrider.server.dialects.limited import require_model, speculation_of
from outrider.server.dialects.messages import ChatMessage, text_content
from outrider.server.dialects.settings import Speculative, TextSettings
from outrider.server.dialects.tools import tool_choice
from outrider.server.errors import refused
from outrider.server.reading import AnswerReading, Call, Said, with_calls_written
from outrider.server.replies import event
from outrider.server.reports import chat_logprobs, closing_fields, origins_of, usage_of
from outrider.server.service import Service
from outrider.structured import Grammar, json_object, json_schema
from outrider.structured.answers import CallArguments, CallBegins, Content, Piece, Reasoning

FINISH = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length", FinishReason.CANCELLED: "stop"}
DONE = b"data: [DONE]\n\n"


class NamedSchema(Part):
    name: Text | None = None
    description: Text | None = None
    schema_: Any = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Part):
    type: Text
    json_schema: NamedSchema | None = None


class Prediction(Part):
    type: Text = "content"
    content: Any


class ChatBody(TextSettings):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage] = Field(description="Text, or parts of type `text`.")
    max_completion_tokens: int | None = Field(default=None, description="The newer name of `max_tokens`.")
    logprobs: bool | None = Field(default=None, description="Of the target, before any sampling setting.")
    top_logprobs: int | None = Field(default=None, description="Up to 20.")
    response_format: ResponseFormat | None = Field(default=None, description="`text`, `json_object`, `json_schema`.")
    tools: list[Any] | None = Field(default=None, description="Of type `function`.")
    tool_choice: Any = Field(default=None, description="`none`, `auto`, `required`, or a function by its name.")
    parallel_tool_calls: bool | None = Field(default=None, description="`false` allows one call where one is required.")
    prediction: Prediction | None = Field(
        default=None, description="Text that is expected in the answer: drafts are copied from it."
    )

    IGNORED: ClassVar[Mapping[str, str]] = {
        **TextSettings.IGNORED,
        "reasoning_effort": "how long a model thinks is up to its template",
        "verbosity": "how much a model says is up to the prompt",
        "include_reasoning": "reasoning is always split off",
    }
    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        **TextSettings.REFUSED,
        "functions": Refusal("use tools", ([],)),
        "function_call": Refusal("use tool_choice", ("none",)),
        "audio": Refusal("audio is not made"),
        "modalities": Refusal("text alone is made", (["text"],)),
        "web_search_options": Refusal("nothing is searched"),
        "echo": Refusal("messages are not repeated", (False,)),
        "add_generation_prompt": Refusal("the template ends with the assistant's header", (True,)),
        "continue_final_message": Refusal("an answer begins a new message", (False,)),
        "chat_template": Refusal("the model's own template is used"),
        "chat_template_kwargs": Refusal("the model's own template is used", ({},)),
        "documents": Refusal("put them into a message", ([],)),
        "mm_processor_kwargs": Refusal("text alone is read", ({},)),
        "media_io_kwargs": Refusal("text alone is read", ({},)),
        "return_prompt_text": Refusal("the prompt is not repeated", (False,)),
        "moderation": Refusal("nothing is moderated"),
    }

    def asked(self, service: Service) -> Asked:
        """Raises ApiError, OutriderError where something cannot be followed."""
        ignored = self.ignored()
        require_model(self.model, service)
        if not self.messages:
            raise refused("messages is empty: give at least one", "messages")
        extras = self.extras(service)
        most = self.max_completion_tokens if self.max_tokens is None else self.max_tokens
        choice = tool_choice(self.tools, self.tool_choice, self.parallel_tool_calls is not False)
        template = service.tokenizer.chat_template
        request = Request(
            [with_calls_written(message.plain(), template) for message in self.messages],
            max_tokens=service.max_tokens if most is None else most,
            sampling=self.sampling(service),
            stop=self.stops(service),
            stop_token_ids=self.stop_tokens(service),
            predicted=self._predicted(),
            logprobs=self._logprobs(service) or extras.tokens,
            structured=self._grammar(choice.grammar(service), service),
            tools=choice.tools,
            **speculation_of(self.speculative, self.seed, service),
        )
        drafter = self.speculative.drafter if isinstance(self.speculative, Speculative) else None
        if request.predicted and not service.offers.copies(drafter):
            named = drafter or service.offers.own
            ignored["prediction"] = f"drafter {named} does not copy: the tokens are counted all the same"
        return Asked([request], self.texts(1, service), extras, ignored, choice.tools, self.cache_salt or "")

    def _predicted(self) -> str:
        if self.prediction is None:
            return ""
        if self.prediction.type != "content":
            raise refused(f"prediction.type is {shown(self.prediction.type)}: it must be 'content'", "prediction.type")
        return text_content(self.prediction.content, "prediction.content")

    def _logprobs(self, service: Service) -> bool | int:
        top, most = self.top_logprobs or 0, service.settings.limits.top_logprobs
        if not 0 <= top <= most:
            raise refused(f"top_logprobs is {top}: it must be from 0 to {most}", "top_logprobs")
        if top and not self.logprobs:
            raise refused("top_logprobs needs logprobs: true", "top_logprobs")
        return bool(self.logprobs) and (top or True)

    def _grammar(self, of_calls: Grammar | None, service: Service) -> Grammar | None:
        given = [
            each for each in (grammar_of(self.response_format), self.grammar(service), of_calls) if each is not None
        ]
        if len(given) > 1:
            raise refused(
                "two of response_format, structured_outputs and a required tool call are given: leave one of them out",
                "response_format",
            )
        return given[0] if given else None


def grammar_of(wanted: ResponseFormat | None, name: str = "response_format") -> Grammar | None:
    """The grammar of a format of answers; None leaves them free.

    Args:
        name: of the field, for messages.

    Raises:
        ApiError: it is no format that there is.
        SettingError: the schema is wrong.
    """
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return json_object()
    if wanted.type != "json_schema":
        kinds = "text, json_object or json_schema"
        raise refused(f"{name}.type is {shown(wanted.type)}: it must be {kinds}", f"{name}.type")
    if wanted.json_schema is None or wanted.json_schema.schema_ is None:
        raise refused(f"{name} has no schema: give one", name)
    return json_schema(wanted.json_schema.schema_)


class ChatReply:
    """The replies to one chat request."""

    def __init__(self, body: ChatBody, asked: Asked, service: Service) -> None:
        self._body = body
        self._asked = asked
        self._service = service
        self._head = {"id": f"chatcmpl-{token_hex(12)}", "created": int(time.time()), "model": service.model}

    async def whole(self, answers: Answers) -> dict[str, Any]:
        """The reply once all texts have ended."""
        readings = self._readings(answers)
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                readings[step.index].read(step)
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [self._whole_choice(reading) for reading in readings],
            "usage": self._usage(answers, readings),
            **closing_fields(answers.all, self._asked.extras),
        }

    async def stream(self, answers: Answers) -> AsyncGenerator[bytes, None]:
        """Chunks, one for each round of each text, or several where a round completes pieces of several kinds."""
        readings = self._readings(answers)
        plain = [PlainChunk(self._head, answer.index) for answer in answers.all]
        for answer in answers.all:
            yield self._chunk([_choice(answer.index, {"role": "assistant", "content": ""})])
        async with aclosing(answers.steps()) as steps:
            async for step in steps:
                reading = readings[step.index]
                pieces = reading.read(step)
                if self._says_text_alone and _is_text(pieces) and step.finish_reason is None:
                    yield plain[step.index].of(pieces[0].text)
                    continue
                deltas = [delta for piece in pieces if (delta := delta_of(piece, reading.said))]
                for delta in deltas[:-1]:
                    yield self._chunk([_choice(step.index, delta)])
                delta = deltas[-1] if deltas else {}
                reason = None if step.finish_reason is None else _reason(reading)
                more = self._more(answers, readings, step)
                if delta or reason or more or self._body.logprobs:
                    yield self._chunk([_choice(step.index, delta, reason, self._logprobs(step.events))], **more)
        if self._body.reports_usage:
            closing = closing_fields(answers.all, self._asked.extras)
            yield self._chunk([], usage=self._usage(answers, readings), **closing)
        yield DONE

    @property
    def _says_text_alone(self) -> bool:
        """Whether a chunk says nothing besides the text before the text ends."""
        extras, options = self._asked.extras, self._body.stream_options
        usage = options is not None and options.continuous_usage_stats
        return not (self._body.logprobs or extras.tokens or extras.rounds or usage)

    def _readings(self, answers: Answers) -> list[AnswerReading]:
        return [AnswerReading(answer, self._service, self._asked.tools) for answer in answers.all]

    def _whole_choice(self, reading: AnswerReading) -> dict[str, Any]:
        said = reading.said
        message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": None}
        if said.calls:
            message |= {"content": said.content or None, "tool_calls": [call_of(call) for call in said.calls]}
        if said.reasoning:
            message["reasoning_content"] = said.reasoning
        events = [event for step in reading.steps for event in step.events]
        return {
            "index": reading.answer.index,
            "message": message,
            "logprobs": self._logprobs(events),
            "finish_reason": _reason(reading),
            **self._origins(reading.steps),
        }

    def _more(self, answers: Answers, readings: Sequence[AnswerReading], step: Step) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if origins := origins_of(step, self._asked.extras, self._service.tokenizer):
            found["outrider"] = origins
        options = self._body.stream_options
        if options is not None and options.continuous_usage_stats:
            found["usage"] = self._usage(answers, readings)
        if not self._body.reports_usage and all(answer.finish_reason for answer in answers.all):
            found |= closing_fields(answers.all, self._asked.extras)
        return found

    def _usage(self, answers: Answers, readings: Sequence[AnswerReading]) -> dict[str, Any]:
        return usage_of(answers.all, sum(reading.reasoning_tokens for reading in readings))

    def _origins(self, steps: Sequence[Step]) -> dict[str, Any]:
        found = [origins_of(step, self._asked.extras, self._service.tokenizer) for step in steps]
        names = found[0].keys() if found else ()
        joined = {name: [item for each in found for item in each[name]] for name in names}
        return {"outrider": joined} if joined else {}

    def _logprobs(self, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        return chat_logprobs(events, self._service.tokenizer) if self._body.logprobs else None

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._head, "object": "chat.completion.chunk", "choices": choices, **more})


class PlainChunk:
    """The chunk that nearly all are: a piece of text and nothing else. What stays the same is written once."""

    def __init__(self, head: Mapping[str, Any], index: int) -> None:
        choices = [_choice(index, {"content": ""})]
        whole = event({**head, "object": "chat.completion.chunk", "choices": choices})
        place = whole.rindex(b'"content":""') + len(b'"content":')
        self._before, self._after = whole[:place], whole[place + 2 :]

    def of(self, text: str) -> bytes:
        return self._before + to_json(text) + self._after


def _is_text(pieces: Sequence[Piece]) -> TypeGuard[Sequence[Content]]:
    return len(pieces) == 1 and isinstance(pieces[0], Content)


def _choice(
    index: int, delta: Mapping[str, Any], reason: str | None = None, logprobs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


def delta_of(piece: Piece, said: Said) -> dict[str, Any]:
    """What a piece adds to a message; empty for what only ends something."""
    if isinstance(piece, Content):
        return {"content": piece.text}
    if isinstance(piece, Reasoning):
        return {"reasoning_content": piece.text}
    if isinstance(piece, CallBegins):
        call = said.calls[piece.call]
        begun = {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": ""}}
        return {"tool_calls": [{"index": piece.call, **begun}]}
    if isinstance(piece, CallArguments):
        return {"tool_calls": [{"index": piece.call, "function": {"arguments": piece.text}}]}
    return {}


def call_of(call: Call) -> dict[str, Any]:
    """A tool call in a message."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _reason(reading: AnswerReading) -> str:
    found = FINISH[reading.finish_reason or FinishReason.STOP]
    return "tool_calls" if reading.said.calls and found == "stop" else found
