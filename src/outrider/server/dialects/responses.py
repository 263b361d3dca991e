"""OpenAI's responses, without state: a client sends the whole conversation each time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from outrider.errors import shown
from outrider.prompts.request import Request
from outrider.prompts.schema import Number, Text
from outrider.server.asked import Asked
from outrider.server.bodies import Part, Refusal
from outrider.server.dialects.base import TextBody
from outrider.server.dialects.chat import NamedSchema, ResponseFormat, grammar_of
from outrider.server.dialects.limited import require_model, sampling_of, speculation_of
from outrider.server.dialects.messages import DEVELOPER, text_content
from outrider.server.dialects.settings import OF_ACCOUNTS, OF_VLLM, Speculative
from outrider.server.dialects.tools import ToolChoice, tool_choice
from outrider.server.errors import refused
from outrider.server.reading import with_calls_written
from outrider.server.service import Service

# vLLM's, which belong to chat completions here.
OF_CHAT = (
    "cache_salt",
    "frequency_penalty",
    "ignore_eos",
    "include_stop_str_in_output",
    "logit_bias",
    "min_p",
    "presence_penalty",
    "repetition_penalty",
    "skip_special_tokens",
    "stop",
    "stop_token_ids",
    "top_k",
)


class TextFormat(Part):
    type: Text
    name: Text | None = None
    description: Text | None = None
    schema_: Any = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(Part):
    format: TextFormat | None = None
    verbosity: Text | None = None


class ResponsesBody(TextBody):
    """POST /v1/responses."""

    model: Text | None = Field(default=None, description="One of the names in /v1/models.")
    input: Any = Field(description="A text, or items: messages, `function_call`, `function_call_output`, `reasoning`.")
    instructions: Text | None = Field(default=None, description="The system prompt.")
    max_output_tokens: int | None = Field(default=None, description="The most tokens; cut to what fits into a row.")
    stream: bool | None = Field(default=None, description="Server-sent events, as OpenAI names them.")
    temperature: Number | None = Field(default=None, description="0 is greedy.")
    top_p: Number | None = Field(default=None, description="As OpenAI.")
    text: TextOptions | None = Field(default=None, description="`format`: `text`, `json_object` or `json_schema`.")
    tools: list[Any] | None = Field(default=None, description="Of type `function`.")
    tool_choice: Any = Field(default=None, description="`none`, `auto`, `required`, or a function by its name.")
    parallel_tool_calls: bool | None = Field(default=None, description="`false` allows one call where one is required.")
    seed: int | None = Field(default=None, description="Our own: reproduces a text.")
    speculative: Speculative | bool | None = Field(default=None, description="Our own: as in chat completions.")

    IGNORED: ClassVar[Mapping[str, str]] = {
        **OF_ACCOUNTS,
        "reasoning": "how long a model thinks is up to its template",
        "include": "nothing is left out that could be included",
        "stream_options": "there is nothing to choose",
        "max_tool_calls": "the server calls no tools",
        "include_reasoning": "reasoning is always split off",
        "priority": "requests are served in the order in which they come",
        "request_id": "the server gives ids",
        "session_id": "requests are independent",
    }
    REFUSED: ClassVar[Mapping[str, Refusal]] = {
        "previous_response_id": Refusal("nothing is stored: send the whole conversation as input"),
        "conversation": Refusal("nothing is stored: send the whole conversation as input"),
        "background": Refusal("answers are given at once", (False,)),
        "prompt": Refusal("no prompts are stored"),
        "truncation": Refusal("prompts are not cut: send a shorter one", ("disabled",)),
        "top_logprobs": Refusal("use /v1/chat/completions", (0,)),
        "context_management": Refusal("prompts are not cut: send a shorter one", ([],)),
        "background_options": Refusal("answers are given at once"),
        "access_programs": Refusal("there are none", ([],)),
        "moderation": Refusal("nothing is moderated"),
        "image": Refusal("text alone is made"),
        "previous_input_messages": Refusal("send the whole conversation as input", ([],)),
        "enable_response_messages": Refusal("messages are not repeated", (False,)),
        "chat_template_kwargs": Refusal("the model's own template is used", ({},)),
        "media_io_kwargs": Refusal("text alone is read", ({},)),
        "mm_processor_kwargs": Refusal("text alone is read", ({},)),
        "structured_outputs": Refusal("use text.format, or /v1/chat/completions"),
        **dict.fromkeys(OF_CHAT, Refusal("use /v1/chat/completions")),
        **OF_VLLM,
    }

    def asked(self, service: Service) -> Asked:
        ignored = self.ignored()
        if self.text is not None and self.text.verbosity is not None:
            ignored["text.verbosity"] = "how much a model says is up to the prompt"
        require_model(self.model, service)
        choice = tool_choice(
            [_as_in_chat(tool) for tool in self.tools or ()], self.tool_choice, self.parallel_tool_calls is not False
        )
        template = service.tokenizer.chat_template
        messages = [with_calls_written(message, template) for message in self._messages()]
        if not messages:
            raise refused("input is empty: give a text, or at least one message", "input")
        request = Request(
            messages,
            max_tokens=service.max_tokens if self.max_output_tokens is None else self.max_output_tokens,
            sampling=sampling_of(service, seed=self.seed, temperature=self.temperature, top_p=self.top_p),
            structured=self._grammar(choice, service),
            tools=choice.tools,
            **speculation_of(self.speculative, self.seed, service),
        )
        return Asked([request], ignored=ignored, tools=choice.tools)

    def _grammar(self, choice: ToolChoice, service: Service) -> Any:
        wanted = None if self.text is None else self.text.format
        of_format = None
        if wanted is not None:
            schema = NamedSchema(name=wanted.name, schema=wanted.schema_)
            of_format = grammar_of(ResponseFormat(type=wanted.type, json_schema=schema), "text.format")
        of_calls = choice.grammar(service)
        if of_format is not None and of_calls is not None:
            raise refused("text.format and a required tool call are given: leave one of them out", "text.format")
        return of_format or of_calls

    def _messages(self) -> list[dict[str, Any]]:
        found = [] if self.instructions is None else [{"role": "system", "content": self.instructions}]
        if isinstance(self.input, str):
            return [*found, {"role": "user", "content": self.input}]
        if not isinstance(self.input, list):
            raise refused(f"input is {shown(self.input)}: it must be a text, or a list of items", "input")
        for item in self.input:
            _add_item(found, item)
        return found


def _add_item(messages: list[dict[str, Any]], item: Any) -> None:
    kind = item.get("type", "message") if isinstance(item, dict) else None
    if kind == "message" and isinstance(item.get("role"), str):
        role = "system" if item["role"] == DEVELOPER else item["role"]
        messages.append({"role": role, "content": text_content(item.get("content"), "input.content")})
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        last = messages[-1] if messages else {}
        if last.get("role") == "assistant":
            messages[-1] = {**last, "tool_calls": [*last.get("tool_calls", ()), call]}
        else:
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
    elif kind == "function_call_output":
        output = item.get("output")
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
    elif kind != "reasoning":  # which templates leave out of earlier turns
        raise refused(f"input has an item of type {shown(kind)}: this server reads messages and calls", "input")


def _as_in_chat(tool: Any) -> Any:
    """A tool as chat templates are shown it: the function in an object of its own."""
    if not isinstance(tool, dict) or "function" in tool or tool.get("type") != "function":
        return tool
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}
