"""OpenAI's responses with the official client."""

import pytest

openai = pytest.importorskip("openai")

from server.asking import HELLO, WEATHER, plain  # noqa: E402

TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": WEATHER,
}


def ask(client, **fields):
    given = {"model": "spoken", "input": "hello", "max_output_tokens": 12, "extra_body": {"seed": 1}} | fields
    return client.responses.create(**given)


def test_a_response_is_what_plain_decoding_says(client):
    reply = ask(client)
    assert reply.output_text == plain(HELLO)
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert reply.output[0].status == "incomplete"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (7, 12)
    details = reply.usage.input_tokens_details, reply.usage.output_tokens_details
    assert (details[0].cache_write_tokens, details[1].reasoning_tokens) == (0, 0)


def test_items_and_instructions(client):
    items = [{"role": "user", "content": [{"type": "input_text", "text": "hello"}]}]
    reply = ask(client, input=items, instructions="be brief")
    assert reply.output_text == plain([{"role": "system", "content": "be brief"}, *HELLO])


def test_the_events_build_the_response(client):
    with client.responses.stream(model="spoken", input="hello", max_output_tokens=40, extra_body={"seed": 1}) as stream:
        events = list(stream)
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    final = events[-1].response
    assert (events[-1].type, final.status) == ("response.incomplete", "incomplete")
    assert "".join(deltas) == final.output[0].content[0].text == plain(HELLO, 40)
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")][:2] == [0, 1]


def test_a_tool_is_called_and_its_result_read(client):
    pytest.importorskip("llguidance")
    reply = ask(client, max_output_tokens=200, tools=[TOOL], tool_choice="required")
    (call,) = reply.output
    assert (call.type, call.name, reply.status) == ("function_call", "weather", "completed")
    assert (reply.tools[0].name, reply.tool_choice) == ("weather", "required")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "rain"}
    items = [*HELLO, call.model_dump(exclude_none=True), output]
    assert ask(client, input=items, tools=[TOOL]).usage.output_tokens == 12


def test_state_is_refused_by_name(client):
    with pytest.raises(openai.BadRequestError, match="previous_response_id is 'resp_1': nothing is stored") as caught:
        ask(client, previous_response_id="resp_1")
    assert caught.value.param == "previous_response_id"
