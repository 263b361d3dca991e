"""Structured output and tools over HTTP, with the official client."""

import json

import pytest

pytest.importorskip("llguidance")
openai = pytest.importorskip("openai")

from pydantic import BaseModel  # noqa: E402

from server.asking import HELLO, WEATHER  # noqa: E402

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": WEATHER,
    },
}


class Town(BaseModel):
    large: bool
    river: bool | None


def ask(client, **fields):
    given = {"model": "spoken", "messages": HELLO, "max_tokens": 300, "seed": 1} | fields
    return client.chat.completions.create(**given)


def test_a_model_of_pydantic_is_parsed(client):
    reply = client.chat.completions.parse(model="spoken", messages=HELLO, response_format=Town, max_tokens=300)
    assert isinstance(reply.choices[0].message.parsed, Town)
    assert reply.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "extra, allowed",
    [
        ({"guided_choice": ["left", "right"]}, {"left", "right"}),
        ({"structured_outputs": {"choice": ["left", "right"]}}, {"left", "right"}),
        ({"structured_outputs": {"regex": "a{3}"}}, {"aaa"}),
        ({"guided_regex": "b{2}"}, {"bb"}),
        ({"structured_outputs": {"json": {"const": 3}}}, {"3"}),
        ({"guided_grammar": 'root ::= "yes" | "no"'}, {"yes", "no"}),
    ],
)
def test_the_names_of_vllm(client, extra, allowed):
    assert ask(client, extra_body=extra).choices[0].message.content in allowed


def test_forced_tokens_are_drafted_for_nothing(client):
    reply = ask(client, extra_body={"structured_outputs": {"regex": "abcdefgh"}, "outrider": {"tokens": True}})
    tokens = reply.choices[0].model_extra["outrider"]["tokens"]
    assert [token["origin"] for token in tokens].count("drafted") >= 6
    assert "grammar" in {token["source"] for token in tokens}


def test_a_tool_is_called(client):
    choice = {"type": "function", "function": {"name": "weather"}}
    reply = ask(client, tools=[TOOL], tool_choice=choice).choices[0]
    assert reply.finish_reason == "tool_calls"
    (call,) = reply.message.tool_calls
    assert json.loads(call.function.arguments)["town"] in ("Bern", "Rome")
    turns = [*HELLO, reply.message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    assert ask(client, messages=turns, tools=[TOOL], max_tokens=5).usage.completion_tokens == 5


def test_a_tool_call_streams(client):
    stream = ask(client, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True)
    names, arguments, reasons = [], "", []
    for chunk in stream:
        for call in chunk.choices[0].delta.tool_calls or ():
            names += [call.function.name] if call.function.name else []
            arguments += call.function.arguments or ""
        reasons.append(chunk.choices[0].finish_reason)
    assert names == ["weather"]
    assert json.loads(arguments)["town"] in ("Bern", "Rome")
    assert reasons[-1] == "tool_calls"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"response_format": {"type": "xml"}}, "response_format.type is 'xml'"),
        ({"response_format": {"type": "json_schema"}}, "response_format has no schema"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool 'x' is to be called"),
        ({"tools": [{"type": "code"}]}, "a tool has the type 'code'"),
        ({"extra_body": {"guided_regex": "(", "outrider": {}}}, "regular expression"),
        (
            {"response_format": {"type": "json_object"}, "extra_body": {"guided_regex": "a"}},
            "two of response_format, structured_outputs and a required tool call",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused(client, fields, message):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **fields)
    assert message in str(caught.value)
