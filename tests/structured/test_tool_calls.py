"""Tool calls: written as each family of models writes them, read token by token, asked for by a grammar."""

import json
import random

import pytest

from outrider import SettingError
from outrider.structured.answers import joined
from outrider.structured.reasoning import after_reasoning, opened_tag, reasons
from outrider.structured.tools import (
    FORMATS,
    AnswerReader,
    CallArguments,
    CallBegins,
    CallEnds,
    Content,
    Reasoning,
    calls_grammar,
    instructions,
    takes_tools,
    tool_format,
    tool_format_named,
)
from tiny.pieces import Pieces, bytes_and_words

PLAIN = Pieces(["a"])  # tags are text
MARKED = bytes_and_words(
    special=("</s>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<think>", "</think>")
)
TOOLS = [
    {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
        "a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}}},
    {"type": "function", "function": {"name": "g"}},
]  # fmt: skip
NAMES = ("f", "g")


def call(number, name, arguments):
    return [CallBegins(number, name), CallArguments(number, arguments), CallEnds(number)]


TRICKY = '{"a": "x}\\"{", "b": [1, {"c": "</tool_call>"}]}'
CALL_OF_G = '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>'
ANSWERS = {
    "two calls after text": (
        "hermes",
        f'Let me see.\n<tool_call>\n{{"name": "f", "arguments": {TRICKY}}}\n</tool_call>\n{CALL_OF_G}',
        [Content("Let me see."), *call(0, "f", TRICKY), *call(1, "g", "{}")],
    ),
    "text after a call": (
        "hermes",
        '<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call> Done.',
        [*call(0, "f", '{"a": 1}'), Content("Done.")],
    ),
    "the name comes last": (
        "hermes",
        '<tool_call>\n{"arguments": {"a": 1}, "name": "f"}\n</tool_call>',
        call(0, "f", '{"a": 1}'),
    ),
    "no arguments": ("hermes", '<tool_call>\n{"name": "g"}\n</tool_call>', call(0, "g", "{}")),
    "no JSON": ("hermes", "<tool_call>\nno\n</tool_call> then", [Content("<tool_call>\nno\n</tool_call> then")]),
    "no name": ("hermes", '<tool_call>{"a": 1}</tool_call>', [Content('<tool_call>{"a": 1}</tool_call>')]),
    "half a tag": ("hermes", "a < b and <tool_x> and <tool_c", [Content("a < b and <tool_x> and <tool_c")]),
    "cut off in its arguments": (
        "hermes",
        '<tool_call>\n{"name": "f", "arguments": {"a": "unfin',
        [CallBegins(0, "f"), CallArguments(0, '{"a": "unfin')],
    ),
    "cut off in its name": ("hermes", '<tool_call>\n{"na', [Content('<tool_call>\n{"na')]),
    "thought first": (
        "hermes",
        '<think>\nhm, <tool_call>?\n</think>\n\n<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>',
        [Reasoning("hm, <tool_call>?"), *call(0, "g", "{}")],
    ),
    "a list in a tag": (
        "smollm",
        '<tool_call>[{"name": "f", "arguments": {"a": 1}}, {"name": "g", "arguments": "{\\"q\\": 2}"}]</tool_call>',
        [*call(0, "f", '{"a": 1}'), *call(1, "g", '{"q": 2}')],
    ),
    "an object is the answer": ("llama3", '{"name": "f", "parameters": {"a": 1}}', call(0, "f", '{"a": 1}')),
    "a tag and two objects": (
        "llama3",
        '<|python_tag|>{"type": "function", "name": "f", "parameters": {"a": 1}}; {"name": "g", "parameters": {}}',
        [*call(0, "f", '{"a": 1}'), *call(1, "g", "{}")],
    ),
    "an answer in JSON": ("llama3", '{"answer": [1, 2], "name": "f"} ', [Content('{"answer": [1, 2], "name": "f"}')]),
    "a name of no tool": ("llama3", '{"name": "Ada", "age": 3}', [Content('{"name": "Ada", "age": 3}')]),
    "JSON within text": ("llama3", 'So {"name": "f"} it is', [Content('So {"name": "f"} it is')]),
    "a list after the tag": (
        "mistral",
        '[TOOL_CALLS][{"name": "f", "arguments": {"a": [1, "]"]}}, {"name": "g", "arguments": {}, "id": "x"}]',
        [*call(0, "f", '{"a": [1, "]"]}'), *call(1, "g", "{}")],
    ),
    "brackets that open nothing": ("mistral", "a [TOOL] b [", [Content("a [TOOL] b [")]),
    "names before arguments": (
        "mistral-args",
        'Hi[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]g[CALL_ID]12[ARGS]{"b": {"c": "}"}}',
        [Content("Hi"), *call(0, "f", '{"a": 1}'), *call(1, "g", '{"b": {"c": "}"}}')],
    ),
    "reasoning alone": (None, "<think>\nx\n\ny </think>\n z", [Reasoning("x\n\ny"), Content("z")]),
    "no reasoning": (None, " a <think> b", [Content(" a <think> b")]),
    "reasoning that is not closed": (None, "<think>x <", [Reasoning("x <")]),
    "less than a tag": (None, "<thi", [Content("<thi")]),
    "no tools and white space": (None, " a \n", [Content(" a \n")]),
}


def read(name, text, sizes, tokenizer=PLAIN, **settings):
    """The pieces of an answer that comes in parts of these sizes."""
    reader = AnswerReader(tokenizer, FORMATS[name] if name else None, names=NAMES, **settings)
    pieces = []
    while text:
        size = sizes()
        pieces += reader.push_text(text[:size])
        text = text[size:]
    return joined([*pieces, *reader.finish()])


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_is_read_alike_however_it_comes(case):
    name, text, expected = ANSWERS[case]
    generator = random.Random(0)
    assert read(name, text, lambda: len(text)) == expected
    assert read(name, text, lambda: 1) == expected
    for _ in range(20):
        assert read(name, text, lambda: generator.randint(1, 9)) == expected


def test_pieces_come_as_soon_as_they_are_certain():
    reader = AnswerReader(PLAIN, FORMATS["hermes"], names=NAMES)
    assert reader.push_text("On it. <tool") == [Content("On it.")]
    assert reader.push_text('_call>\n{"name": "f", "arg') == [CallBegins(0, "f")]
    assert reader.push_text('uments": {"a": ') == [CallArguments(0, '{"a": ')]
    assert reader.push_text("12") == [CallArguments(0, "12")]
    assert reader.push_text("}}") == [CallArguments(0, "}"), CallEnds(0)]
    assert reader.push_text("\n</tool_call>") == []
    assert reader.finish() == []


def test_tags_that_are_special_tokens_have_no_text():
    reader = AnswerReader(MARKED, FORMATS["hermes"])
    pieces = []
    for part in ("<think>", "hm", "</think>", "<tool_call>", '{"name": "g", "arguments": {}}', "</tool_call>"):
        if part.startswith("<"):
            pieces += reader.push(MARKED.token(part), "")
        else:
            pieces += [piece for token in MARKED.encode(part) for piece in reader.push(token, MARKED.decode([token]))]
    assert joined([*pieces, *reader.finish()]) == [Reasoning("hm"), *call(0, "g", "{}")]


def test_reasoning_that_the_prompt_opens():
    text = 'hm</think>{"a": 1}'
    assert read(None, text, lambda: 3, opened="<think>") == [Reasoning("hm"), Content('{"a": 1}')]
    assert read(None, text, lambda: 3, reasoning=False) == [Content(text)]
    opened = [*MARKED.encode("user: a\n"), MARKED.token("<think>"), *MARKED.encode("\n")]
    assert opened_tag(opened, MARKED) == "<think>"
    assert opened_tag([*opened, MARKED.token("</think>")], MARKED) is None
    assert opened_tag(MARKED.encode("a <think>\n"), MARKED) == "<think>"
    assert reasons("{{ '<think>' }}")
    assert not reasons(None)


@pytest.mark.parametrize(
    "template, name",
    [
        ("{% if tools %}<tool_call>{{ tools }}", "hermes"),
        ("{% if tools %}<|python_tag|>", "llama3"),
        ('{% if tools %}{"name": .., "parameters": ..}', "llama3"),
        ("{{ tools }}[TOOL_CALLS][", "mistral"),
        ("{{ tools }}[TOOL_CALLS]x[ARGS]", "mistral-args"),
        ("{{ tools }}", "hermes"),
        ("{{ messages }}", "smollm"),
        (None, "smollm"),
    ],
)
def test_the_chat_template_tells_the_format(template, name):
    assert tool_format(template).name == name
    assert tool_format_named(name) is FORMATS[name]
    assert takes_tools(template) == (name != "smollm")


# Asked for by a grammar


def accepted(grammar, text, tokenizer):
    constraint = pytest.importorskip("outrider.structured").GrammarConstraint(
        grammar, tokenizer, len(tokenizer.vocabulary), frozenset({tokenizer.token("</s>")})
    )
    tokens = marked(text, tokenizer)
    return constraint.admits(tokens) and constraint.allowed(tokens)[tokenizer.token("</s>")]


def marked(text, tokenizer):
    """Tokens of a text whose tags are special tokens where the tokenizer has them."""
    tokens, places = [], {name: text.find(name) for name in map(bytes.decode, named(tokenizer)) if name in text}
    if not places:
        return tokenizer.encode(text)
    name = min(places, key=places.get)
    before, _, behind = text.partition(name)
    tokens += [*tokenizer.encode(before), tokenizer.token(name), *marked(behind, tokenizer)]
    return tokens


def named(tokenizer):
    return [tokenizer.vocabulary[token] for token in sorted(tokenizer.special_tokens)]


WRITTEN = {
    "hermes": '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>',
    "smollm": '<tool_call>[{"name": "f", "arguments": {"a": 1}}]</tool_call>',
    "llama3": '{"name": "f", "parameters": {"a": 1}}',
    "mistral": '[TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]',
    "mistral-args": '[TOOL_CALLS]f[ARGS]{"a": 1}',
}


@pytest.mark.parametrize("tokenizer", [bytes_and_words(), MARKED], ids=["text", "tokens"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_required_call_follows_the_tools_parameters(name, tokenizer):
    pytest.importorskip("llguidance")
    format, good = FORMATS[name], WRITTEN[name]
    either = calls_grammar(TOOLS, tokenizer, format)
    assert accepted(either, good, tokenizer)
    assert not accepted(either, good.replace("1", '"one"'), tokenizer)
    assert not accepted(either, good.replace("f", "h", 1), tokenizer)
    assert not accepted(either, "Hello", tokenizer)
    assert not accepted(calls_grammar(TOOLS, tokenizer, format, name="g"), good, tokenizer)
    twice = {"hermes": f"{good}\n{good}", "mistral-args": good + good, "llama3": ""}.get(
        name, good.replace("}}]", f"}}}}, {json.dumps({'name': 'g', 'arguments': {}})}]")
    )
    if twice:
        assert accepted(either, twice, tokenizer)
        assert not accepted(calls_grammar(TOOLS, tokenizer, format, several=False), twice, tokenizer)


def test_an_answer_may_be_thought_over_before_its_grammar_begins():
    structured = pytest.importorskip("outrider.structured")
    pytest.importorskip("llguidance")
    for tokenizer in (bytes_and_words(), MARKED):
        inner = structured.choice(["yes", "no"])
        opened = after_reasoning(inner, tokenizer, "<think>")
        assert accepted(opened, "hm, no?</think>\n\nyes", tokenizer)
        assert not accepted(opened, "yes", tokenizer)
        free = after_reasoning(inner, tokenizer, None)
        assert accepted(free, "<think>hm, no?</think>yes", tokenizer)
        assert accepted(free, "no", tokenizer)
        assert not accepted(free, "<think>no", tokenizer)
        assert not accepted(free, "maybe", tokenizer)
        tools = after_reasoning(calls_grammar(TOOLS, tokenizer, FORMATS["hermes"]), tokenizer, "<think>")
        assert accepted(tools, "f?</think>" + WRITTEN["hermes"], tokenizer)


def test_tools_that_cannot_be_called_are_refused():
    with pytest.raises(SettingError, match="tool 'h' is to be called and the tools are 'f', 'g'"):
        calls_grammar(TOOLS, PLAIN, FORMATS["hermes"], name="h")
    with pytest.raises(SettingError, match="a tool call is required and the tools are none"):
        calls_grammar([], PLAIN, FORMATS["hermes"])
    with pytest.raises(SettingError, match="has no name"):
        calls_grammar([{"type": "function"}], PLAIN, FORMATS["hermes"])
    with pytest.raises(SettingError, match="the tool format is 'xml': it must be one of hermes, smollm"):
        tool_format_named("xml")


def test_what_a_system_prompt_says_where_a_template_knows_no_tools():
    text = instructions(TOOLS)
    assert json.loads(text.partition("<tools>")[2].partition("</tools>")[0]) == [tool["function"] for tool in TOOLS]
    assert '<tool_call>[{"name":' in text
