"""Tools on their way to the chat template, and tool calls in a conversation on theirs."""

import pytest

from outrider import Request, SettingError
from outrider.prompts.chat import Chat, encode
from outrider.prompts.request import prepare_request
from tiny.pieces import bytes_and_words, json_table

TOOLS = ({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},)
ASKED = [{"role": "user", "content": "Now?"}]


class Shown(type(bytes_and_words())):
    """Its chat template writes down what it is given."""

    chat_template = "{{ tools }} {{ messages }}"

    def encode_chat(self, messages, tools=()):
        return self.encode(repr([list(tools), list(messages)]))


class Blind(Shown):
    """Its chat template knows no tools."""

    chat_template = "{{ messages }}"

    def encode_chat(self, messages):
        return self.encode(repr(list(messages)))


def made(kind):
    return kind([bytes([byte]) for byte in range(256)], ("</s>",))


def shown(messages, tools=TOOLS, tokenizer=None, system_prompt=None):
    tokenizer = tokenizer or made(Shown)
    return tokenizer.decode(encode(messages, tokenizer, "model", Chat(system_prompt, tools=tools)))


def test_tools_reach_the_template():
    assert shown(ASKED) == repr([list(TOOLS), ASKED])
    assert shown(ASKED, tools=()) == repr([[], ASKED])
    target = json_table(made(Shown), 1)
    prepared = prepare_request(Request(ASKED, tools=TOOLS), target, target.tokenizer)
    assert target.tokenizer.decode(prepared.prompt) == shown(ASKED)


def test_a_template_that_knows_no_tools_has_them_in_the_system_prompt():
    text = shown(ASKED, tokenizer=made(Blind))
    assert text.startswith("[{'role': 'system', 'content': 'You may call functions")
    assert '"name": "f"' in text
    assert text.endswith(repr(ASKED)[1:])
    both = shown(ASKED, tokenizer=made(Blind), system_prompt="Be brief.")
    assert both.startswith("[{'role': 'system', 'content': 'Be brief.\\n\\nYou may call functions")


def test_arguments_of_earlier_calls_are_objects_for_the_template():
    def called(arguments):
        function = {"name": "f", "arguments": arguments}
        return [{"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]}, *ASKED]

    assert shown(called('{"a": [1]}'), tools=()) == repr([[], called({"a": [1]})])
    for kept in ("no JSON", "[1]", {"a": 1}, '{"a":' * 50_000):
        assert shown(called(kept), tools=()) == repr([[], called(kept)])


def test_what_are_no_tools_is_refused():
    with pytest.raises(SettingError, match="tools is 3: it must be a list of functions"):
        Request(ASKED, tools=3)
    with pytest.raises(SettingError, match="has no name"):
        Request(ASKED, tools=[{"type": "function"}])
    with pytest.raises(SettingError, match="tools need a conversation"):
        Request("Now?", tools=TOOLS)
