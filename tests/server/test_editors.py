"""The bodies that editors send, by their published sources: Zed's and Continue's."""

import json

import pytest

from server.asking import HELLO, WEATHER, plain

CHAT = "/v1/chat/completions"


def streamed(http, path, body):
    """The chunks of a stream."""
    with http.stream("POST", path, json=body) as reply:
        reply.read()
        assert reply.status_code == 200, reply.text
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_zed(http):
    """Usage is asked for in each stream; an assistant's turn may have calls and a list of no parts."""
    pytest.importorskip("llguidance")
    function = {"name": "weather", "description": None, "parameters": WEATHER}
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Rome"}'}}
    body = {
        "model": "spoken",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]},
            {"role": "assistant", "content": [], "tool_calls": [call]},
            {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
            {"role": "assistant", "content": None, "reasoning_content": "it rains"},
            *HELLO,
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": 12,
        "temperature": 1.0,
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "function": function}],
        "prompt_cache_key": "thread",
        "reasoning_effort": "low",
    }
    chunks = streamed(http, CHAT, body)
    assert all("choices" in chunk for chunk in chunks)  # what has none, Zed takes for an error
    assert chunks[-1]["usage"]["completion_tokens"] == 12


def test_continue(http):
    """Stop strings and a prediction in chat; prompts with an infix of their own, to be completed."""
    of_both = {"model": "spoken", "max_tokens": 12, "temperature": 0.5, "top_p": 1, "seed": 1, "stream": True}
    penalties = {"frequency_penalty": 0, "presence_penalty": 0}
    predicted = {"prediction": {"type": "content", "content": "hello"}}
    chunks = streamed(http, CHAT, {"messages": HELLO, **of_both, **penalties, **predicted, "stop": ["###"]})
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert text == plain(HELLO, temperature=0.5)
    prompt = "<fim_prefix>a<fim_suffix>b<fim_middle>"
    chunks = streamed(http, "/v1/completions", {"prompt": prompt, **of_both, **penalties, "stop": ["<fim_prefix>"]})
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == plain(prompt, temperature=0.5)
    assert [entry["id"] for entry in http.get("/v1/models").json()["data"]] == ["spoken", "other"]
