"""OpenAI's `tools` and `tool_choice`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from outrider.errors import shown
from outrider.server.errors import refused
from outrider.server.service import Service
from outrider.structured import Grammar
from outrider.structured.tools import Tool, calls_grammar, function_of, parameters_of, tool_format

AUTO, NONE, REQUIRED = "auto", "none", "required"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which tools the model may call, and whether it must.

    Attributes:
        tools: empty where none may be called.
        required: whether the answer must be calls.
        name: the only tool that may be called; None is any.
        several: whether there may be more than one call.
    """

    tools: tuple[Tool, ...] = ()
    required: bool = False
    name: str | None = None
    several: bool = True

    def grammar(self, service: Service) -> Grammar | None:
        """What makes the answer a call; None where it may be something else.

        Raises:
            SettingError: there is no tool of that name.
        """
        if not self.required:
            return None
        tokenizer = service.tokenizer
        format = tool_format(tokenizer.chat_template)
        return calls_grammar(self.tools, tokenizer, format, name=self.name, several=self.several)


def tool_choice(tools: list[Any] | None, choice: Any, several: bool) -> ToolChoice:
    """What `tools` and `tool_choice` say.

    Raises:
        ApiError: `tool_choice` is none of the forms that there are.
        SettingError: a tool has no name, or parameters that are no schema.
    """
    given = tuple(tools or ())
    for tool in given:
        kind = tool.get("type", "function") if isinstance(tool, dict) else None
        if kind != "function":
            raise refused(f"a tool has the type {shown(kind)}: this server knows tools of type function", "tools")
        parameters_of(function_of(tool))
    if choice is None or choice == AUTO:
        return ToolChoice(given, several=several)
    if choice == NONE:
        return ToolChoice()
    if choice == REQUIRED:
        return ToolChoice(given, required=True, several=several)
    name = _named(choice)
    if name is None:
        raise refused(
            f"tool_choice is {shown(choice)}: it must be none, auto, required, or a function by its name", "tool_choice"
        )
    return ToolChoice(given, required=True, name=name, several=False)


def _named(choice: Any) -> str | None:
    """The tool that must be called, in the forms of chat completions and of responses."""
    if not isinstance(choice, dict) or choice.get("type") != "function":
        return None
    holder = choice.get("function", choice)
    name = holder.get("name") if isinstance(holder, dict) else None
    return name if isinstance(name, str) else None
