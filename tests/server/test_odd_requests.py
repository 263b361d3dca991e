"""Values of every type in every field: each is taken or refused in the shape of its dialect, and never fails inside."""

import json

import pytest

from outrider.server.fields import BODIES
from server.asking import HELLO, WEATHER

ODD = ["1" + "0" * 400, "-1", "1e400", "true", '"\\ud800"', "[null]", "[{}]", "{}", '{"a": 1}']
ODDEST = [ODD[0], *ODD[4:6], ODD[-1]]
FUNCTION = {"name": "weather", "parameters": WEATHER}
CALL = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
BLOCK = {"id": "a", "name": "weather", "input": {}, "tool_use_id": "a", "content": "rain", "text": "rain"}
FINE = {
    "/v1/chat/completions": {"messages": HELLO, "max_tokens": 1},
    "/v1/completions": {"prompt": "hello", "max_tokens": 1},
    "/v1/responses": {"input": "hello", "max_output_tokens": 1},
    "/v1/messages": {"messages": HELLO, "max_tokens": 1},
    "/tokenize": {"prompt": "hello"},
    "/detokenize": {"tokens": [1]},
}
CHAT, COMPLETIONS, RESPONSES, MESSAGES = list(FINE)[:4]
ODDITY = "an odd value"


def within(path, **fields):
    return path, FINE[path] | fields


def inner_fields():
    """Bodies with an odd value deep inside."""
    for name in ("role", "content", "name", "tool_calls", "tool_call_id"):
        for path in (CHAT, MESSAGES):
            yield within(path, messages=[*HELLO, {"role": "assistant", "content": "rain", name: ODDITY}, *HELLO])
    for place in ({"id": ODDITY}, {"type": ODDITY}, {"function": ODDITY}):
        yield within(CHAT, messages=[{"role": "assistant", "tool_calls": [CALL | place]}, *HELLO])
    for name in ("name", "arguments"):
        call = CALL | {"function": CALL["function"] | {name: ODDITY}}
        yield within(CHAT, messages=[{"role": "assistant", "tool_calls": [call]}, *HELLO])
    for name in ("name", "parameters", "description", "strict"):
        function = FUNCTION | {name: ODDITY}
        for choice in ("auto", "required"):
            yield within(CHAT, tools=[{"type": "function", "function": function}], tool_choice=choice)
            yield within(RESPONSES, tools=[{"type": "function", **function}], tool_choice=choice)
    for name in ("name", "input_schema", "description", "type"):
        tool = {"name": "weather", "input_schema": WEATHER, name: ODDITY}
        yield within(MESSAGES, tools=[tool], tool_choice={"type": "any"})
    for name in ("type", "name", "disable_parallel_tool_use"):
        choice = {"type": "tool", "name": "weather", name: ODDITY}
        yield within(MESSAGES, tools=[{"name": "weather", "input_schema": WEATHER}], tool_choice=choice)
    for kind in ("text", "tool_use", "tool_result", "thinking", ODDITY):
        for name in BLOCK:
            blocks = [{"type": kind, **BLOCK, name: ODDITY}]
            yield within(MESSAGES, messages=[{"role": "assistant", "content": blocks}, *HELLO])
    item = {"role": "user", "content": "hello", "name": "weather", "arguments": "{}", "call_id": "a", "output": "rain"}
    for kind in ("message", "function_call", "function_call_output", "reasoning", ODDITY):
        for name in item:
            yield within(RESPONSES, input=[*HELLO, {"type": kind, **item, name: ODDITY}])
    for name in ("drafter", "num_draft_tokens", "rule"):
        yield within(CHAT, speculative={name: ODDITY})
    for name in ("json", "regex", "choice", "grammar", "json_object"):
        yield within(CHAT, structured_outputs={name: ODDITY})
    for name in ("type", "content"):
        yield within(CHAT, prediction={"type": "content", "content": "hello", name: ODDITY})


def outer_fields(path):
    for name, field in BODIES[path].model_fields.items():
        yield path, FINE[path] | {field.alias or name: ODDITY}


def own_shape(path, reply):
    body = reply.json()
    if path == MESSAGES:
        return body["type"] == "error" and set(body["error"]) == {"type", "message"}
    return set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}


def hold(http, asked, values):
    for path, fields in asked:
        for odd in values:
            body = json.dumps(fields).replace(json.dumps(ODDITY), odd)
            reply = http.post(path, content=body.encode(), headers={"content-type": "application/json"})
            assert reply.status_code in (200, 400, 404), (body, reply.text)
            assert reply.status_code == 200 or own_shape(path, reply), (body, reply.text)


@pytest.mark.parametrize("path", BODIES)
def test_every_field_takes_or_refuses_any_value(http, path):
    hold(http, outer_fields(path), ODD)


def test_so_does_every_field_within_one(http):
    pytest.importorskip("llguidance")
    hold(http, inner_fields(), ODDEST)
