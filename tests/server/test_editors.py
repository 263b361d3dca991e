"""The bodies that editors and chat pages send, by their published sources: Zed's, Continue's and Open WebUI's."""

import json

import httpx
import pytest

from server.asking import HELLO, WEATHER, plain
from server.conftest import running, service

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


OF_OLLAMA = {
    "keep_alive": "5m",
    "num_ctx": 4096,
    "num_keep": 24,
    "num_batch": 512,
    "num_thread": 2,
    "num_gpu": 1,
    "use_mmap": True,
    "use_mlock": True,
    "think": True,
    "repeat_last_n": 64,
    "mirostat_eta": 0.1,
    "mirostat_tau": 5.0,
}
NEUTRAL = {"repeat_penalty": 1.0, "mirostat": 0, "tfs_z": 1.0, "typical_p": 1.0, "num_predict": -1}


def test_open_webui_passes_on_what_its_users_set_for_ollama(http):
    """Answers are those without; the header names what is left out."""
    asked = {"model": "spoken", "messages": HELLO, "max_tokens": 12, "seed": 1, "stream": False}
    reply = http.post(CHAT, json=asked | OF_OLLAMA | NEUTRAL)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == plain(HELLO)
    assert set(reply.headers["x-outrider-ignored"].split(", ")) == set(OF_OLLAMA)


@pytest.mark.parametrize(
    "name, value, remedy",
    [
        ("repeat_penalty", 1.1, "use repetition_penalty"),
        ("num_predict", 12, "use max_tokens"),
        ("format", "json", "use response_format"),
        ("mirostat", 1, "mirostat is not offered"),
        ("tfs_z", 0.9, "tail-free sampling is not offered"),
    ],
)
def test_what_would_change_the_text_is_refused_with_a_remedy(http, name, value, remedy):
    reply = http.post(CHAT, json={"messages": HELLO, name: value})
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == name
    assert remedy in reply.json()["error"]["message"]


def test_a_task_without_a_limit_ends_where_the_server_says():
    """Open WebUI asks for tags and further questions without max_tokens, and small models go on and on."""
    with running(service(max_tokens=7)) as address, httpx.Client(base_url=address, timeout=120) as http:
        task = {"model": "spoken", "messages": HELLO, "stream": False, "seed": 1}
        reply = http.post(CHAT, json=task).json()
        assert reply["usage"]["completion_tokens"] == 7
        assert reply["choices"][0]["finish_reason"] == "length"
        reply = http.post("/v1/responses", json={"model": "spoken", "input": "hello", "seed": 1}).json()
        assert reply["usage"]["output_tokens"] == 7
        reply = http.post(CHAT, json=task | {"max_tokens": 12}).json()
        assert reply["usage"]["completion_tokens"] == 12
