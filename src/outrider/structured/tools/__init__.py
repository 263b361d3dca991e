"""Tool calls: how models write them, the grammar that makes them write one, and how they are read as they come.

format = tool_format(chat_template)             how this model writes calls
calls_grammar(tools, tokenizer, format)         tool_choice "required", or name="get_weather" for a named tool
reader = AnswerReader(tokenizer, format, opened=opened_tag(prompt, tokenizer), names=["get_weather"])
reader.push(token, text) ... reader.finish()    pieces: Content, Reasoning, CallBegins, CallArguments, CallEnds
"""

from outrider.structured.answers import CallArguments, CallBegins, CallEnds, Content, Piece, Reasoning
from outrider.structured.tools.choice import calls_grammar
from outrider.structured.tools.formats import (
    FORMATS,
    Tool,
    ToolFormat,
    function_of,
    instructions,
    parameters_of,
    takes_tools,
    tool_format,
    tool_format_named,
)
from outrider.structured.tools.reader import AnswerReader

__all__ = [
    "FORMATS",
    "AnswerReader",
    "CallArguments",
    "CallBegins",
    "CallEnds",
    "Content",
    "Piece",
    "Reasoning",
    "Tool",
    "ToolFormat",
    "calls_grammar",
    "function_of",
    "instructions",
    "parameters_of",
    "takes_tools",
    "tool_format",
    "tool_format_named",
]
