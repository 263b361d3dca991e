"""The official client of Anthropic against the server: messages, streams, tools and errors."""

import json

import pytest

anthropic = pytest.importorskip("anthropic")

from server.asking import HELLO, WEATHER, plain  # noqa: E402

TOOL = {
    "name": "weather",
    "description": "The weather of a town",
    "input_schema": WEATHER,
}


@pytest.fixture(scope="module")
def client(address):
    with anthropic.Anthropic(base_url=address, api_key="none", max_retries=0) as found:
        yield found


def ask(client, **fields):
    given = {"model": "spoken", "max_tokens": 12, "messages": HELLO, "extra_body": {"seed": 1}} | fields
    return client.messages.create(**given)


def test_a_message_is_what_plain_decoding_says(client):
    reply = ask(client)
    assert [block.type for block in reply.content] == ["text"]
    assert reply.content[0].text == plain(HELLO)
    assert (reply.stop_reason, reply.usage.input_tokens, reply.usage.output_tokens) == ("max_tokens", 7, 12)


def test_a_system_prompt_and_blocks(client):
    blocks = [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]}]
    reply = ask(client, system=[{"type": "text", "text": "be brief"}], messages=blocks)
    assert reply.content[0].text == plain([{"role": "system", "content": "be brief"}, *HELLO])


def test_a_stream_builds_the_same_message(client):
    with client.messages.stream(model="spoken", max_tokens=40, messages=HELLO, extra_body={"seed": 1}) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == message.content[0].text == plain(HELLO, 40)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 40)


def test_a_stop_sequence_is_named(client):
    whole = plain(HELLO, 30)
    reply = ask(client, max_tokens=30, stop_sequences=["#", whole[9:12]])
    assert reply.content[0].text == whole[: whole.index(whole[9:12])]
    assert (reply.stop_reason, reply.stop_sequence) == ("stop_sequence", whole[9:12])


def test_a_tool_is_called_and_its_result_read(client):
    pytest.importorskip("llguidance")
    reply = ask(client, max_tokens=200, tools=[TOOL], tool_choice={"type": "tool", "name": "weather"})
    assert reply.stop_reason == "tool_use"
    call = reply.content[-1]
    assert (call.type, call.name) == ("tool_use", "weather")
    assert call.input["town"] in ("Bern", "Rome")
    turns = [
        *HELLO,
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}]},
    ]
    assert ask(client, messages=turns, tools=[TOOL]).usage.output_tokens == 12


def test_a_tool_call_streams(client):
    pytest.importorskip("llguidance")
    with client.messages.stream(
        model="spoken",
        max_tokens=200,
        messages=HELLO,
        tools=[TOOL],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    ) as stream:
        parts = [event.partial_json for event in stream if event.type == "input_json"]
        message = stream.get_final_message()
    assert json.loads("".join(parts)) == message.content[-1].input
    assert message.stop_reason == "tool_use"


def test_errors_have_the_shape_of_the_client(client):
    with pytest.raises(anthropic.NotFoundError, match="model 'claude' is not served here"):
        ask(client, model="claude")
    with pytest.raises(anthropic.BadRequestError, match="top_k is -3: it must be") as caught:
        ask(client, extra_body={"top_k": -3})
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    image = [{"role": "user", "content": [{"type": "image", "source": {}}]}]
    with pytest.raises(anthropic.BadRequestError, match="a block of type 'image': this server reads text alone"):
        ask(client, messages=image)
