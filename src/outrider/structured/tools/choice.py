"""tool_choice as a grammar: an answer that calls tools, and whose arguments are what the tools take."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from outrider.errors import SettingError, shown
from outrider.structured.grammars import COMPACT, Grammar, literal
from outrider.structured.marks import mark
from outrider.structured.tools.formats import Tool, ToolFormat, function_of, parameters_of
from outrider.text import Tokenizer

MOST_CALLS = 16  # in one answer


def calls_grammar(
    tools: Sequence[Tool],
    tokenizer: Tokenizer,
    format: ToolFormat,
    *,
    name: str | None = None,
    several: bool = True,
) -> Grammar:
    """Answers that are tool calls and nothing else (`tool_choice` "required", or a named tool).

    Arguments follow the schema of the tool's parameters. Keywords of it that llguidance does not know are left out,
    unless the tool says `"strict": true`; then they are refused.

    Args:
        name: the only tool that may be called; None is any.
        several: whether there may be more than one call, where the format knows that.

    Raises:
        SettingError: there is no tool, or none of that name, or one has no name, or parameters that are no schema.
    """
    functions = [function_of(tool) for tool in tools]
    chosen = [function for function in functions if name is None or function["name"] == name]
    if not chosen:
        known = shown([function["name"] for function in functions]).strip("[]") or "none"
        wanted = "a tool call is required" if name is None else f"tool {shown(name)} is to be called"
        raise SettingError(f"{wanted} and the tools are {known}: give it among tools")
    more = several and format.several and MOST_CALLS > 1
    call, rules = _call_rules(chosen, tokenizer, format)
    body = f"{call} ({literal(', ')} {call}){{0,{MOST_CALLS - 1}}}" if format.listed and more else call
    if format.listed:
        body = f"{literal('[')} {body} {literal(']')}"
    opens = "" if format.bare or format.opens is None else mark(format.opens, tokenizer)
    between = "" if format.listed or format.closes is None else literal("\n")
    closes = "" if format.closes is None else mark(format.closes, tokenizer)
    tagged = " ".join(part for part in (opens, between, body, between, closes) if part)
    if more and not format.listed:
        tagged = f"{tagged} ({between} {tagged}){{0,{MOST_CALLS - 1}}}"
    return Grammar(f"start: {tagged}\n{rules}", "tool choice")


def _call_rules(functions: Sequence[Any], tokenizer: Tokenizer, format: ToolFormat) -> tuple[str, str]:
    """The rule of one call, and what defines it."""
    rules = []
    for number, function in enumerate(functions):
        if format.marked is not None:
            written = f"{literal(function['name'])} {mark(format.marked, tokenizer)} %json {_dumped(function)}"
        else:
            head = f'{{"name": {json.dumps(function["name"])}, "{format.arguments}": '
            written = f"{literal(head)} %json {_dumped(function)} {literal('}')}"
        rules.append(f"call_{number}: {written}")
    names = " | ".join(f"call_{number}" for number in range(len(functions)))
    return "call", "\n".join([f"call: {names}", *rules])


def _dumped(function: Any) -> str:
    options = {**COMPACT, "lenient": not function.get("strict", False)}
    return json.dumps({**parameters_of(function), "x-guidance": options}, ensure_ascii=False)
