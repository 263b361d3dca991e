"""How models write tool calls, by the text of their chat templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from outrider.errors import SettingError, shown

Tool = Mapping[str, Any]  # {"type": "function", "function": {"name": ..., "parameters": {...}}}
NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ToolFormat:
    """How a family of models writes tool calls.

    Attributes:
        name: of the format.
        opens: the tag before calls; None where a call is the whole answer.
        closes: the tag behind them; None where the answer ends with them.
        arguments: the key of the arguments in a call.
        listed: whether calls stand in a list; one tag then holds all of them.
        several: whether there may be more than one call.
        bare: whether an answer may begin with a call without the tag.
        marked: between the name of a call and its arguments, where a call is no JSON object by itself; None elsewhere.
    """

    name: str
    opens: str | None
    closes: str | None = None
    arguments: str = "arguments"
    listed: bool = False
    several: bool = True
    bare: bool = False
    marked: str | None = None

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(tag for tag in (self.opens, self.closes, self.marked) if tag is not None)


# <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>: Hermes, Qwen 2.5 and 3, SmolLM3
HERMES = ToolFormat("hermes", "<tool_call>", "</tool_call>")
# <tool_call>[{"name": "f", "arguments": {...}}, ...]</tool_call>: SmolLM2
SMOLLM = ToolFormat("smollm", "<tool_call>", "</tool_call>", listed=True)
# {"name": "f", "parameters": {...}}, with <|python_tag|> before it or not: Llama 3.1 to 3.3
LLAMA3 = ToolFormat("llama3", "<|python_tag|>", arguments="parameters", several=False, bare=True)
# [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...]: Mistral
MISTRAL = ToolFormat("mistral", "[TOOL_CALLS]", listed=True)
# [TOOL_CALLS]f[ARGS]{...}: Mistral from late 2025 on
MISTRAL_ARGS = ToolFormat("mistral-args", "[TOOL_CALLS]", marked="[ARGS]")
FORMATS = {each.name: each for each in (HERMES, SMOLLM, LLAMA3, MISTRAL, MISTRAL_ARGS)}

# What a system prompt says to models whose template knows no tools, as SmolLM2's model card words it in part.
INSTRUCTIONS = """You may call functions to answer the user. These are the functions:

<tools>{tools}</tools>

To call functions, answer with nothing but a list of calls in JSON:
<tool_call>[{{"name": "a_function", "arguments": {{"an_argument": "a value"}}}}]</tool_call>"""


def takes_tools(chat_template: str | None) -> bool:
    """Whether a chat template shows tools to the model."""
    return "tools" in (chat_template or "")


def tool_format(chat_template: str | None) -> ToolFormat:
    """The format that a chat template teaches; SMOLLM where it knows no tools, as `instructions` teach it."""
    text = chat_template or ""
    if not takes_tools(text):
        return SMOLLM
    if "[TOOL_CALLS]" in text:
        return MISTRAL_ARGS if "[ARGS]" in text else MISTRAL
    if "<tool_call>" in text:
        return HERMES
    if "<|python_tag|>" in text or '"parameters"' in text:
        return LLAMA3
    return HERMES


def tool_format_named(name: str) -> ToolFormat:
    """Raises SettingError where there is no such format."""
    if name not in FORMATS:
        raise SettingError(f"the tool format is {shown(name)}: it must be one of {', '.join(FORMATS)}")
    return FORMATS[name]


def instructions(tools: Sequence[Tool]) -> str:
    """What a system prompt says of tools where the chat template says nothing."""
    return INSTRUCTIONS.format(tools=json.dumps([function_of(tool) for tool in tools], ensure_ascii=False))


def function_of(tool: Tool) -> Mapping[str, Any]:
    """The description of a tool, {"name": ..., "parameters": ...}.

    Raises:
        SettingError: it is no function with a name.
    """
    function = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str) or not function["name"]:
        raise SettingError(f'the tool {shown(tool)} has no name: give {{"type": "function", "function": ...}}')
    return function


def parameters_of(function: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of a function's arguments.

    Raises:
        SettingError: it is no object.
    """
    parameters = function.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if not isinstance(parameters, Mapping):
        name = shown(function["name"])
        raise SettingError(
            f"the parameters of tool {name} are {shown(parameters)}: they must be a JSON schema, an object"
        )
    return parameters or NO_PARAMETERS
