"""What is refused, with which status, and that nothing is left out in silence."""

import asyncio
import socket
import time

import httpx
import pytest

from outrider.server import Limits
from outrider.server.bodies import Bodies
from outrider.server.predictions import appeared
from server.conftest import PATIENCE, running, service

HELLO = [{"role": "user", "content": "hello"}]


def post(http, body, path="/v1/chat/completions", **headers):
    content = body if isinstance(body, bytes) else None
    given = {"content": content} if content is not None else {"json": body}
    return http.post(path, headers={"content-type": "application/json"} | headers, **given)


@pytest.mark.parametrize(
    "body, message, param",
    [
        (b"{", "the body is no JSON", None),
        (b"\xff\xfe", "the body is no JSON", None),
        (b"[" * 100_000, "the body is no JSON", None),
        (b"[]", "the body is []: it must be an object", None),
        (b'{"messages": "hello"}', "messages is 'hello': it must be a list", "messages"),
        (b"{}", "messages is missing", "messages"),
        (b'{"messages": []}', "messages is empty", "messages"),
        (b'{"messages": [{"role": "user", "content": "a"}], "temperature": NaN}', "temperature is nan", None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "", None),
        (b'{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "type 'image_url'", None),
    ],
)
def test_a_malformed_body_is_refused(http, body, message, param):
    reply = post(http, body)
    assert reply.status_code == 400
    error = reply.json()["error"]
    assert message in error["message"]
    assert param is None or error["param"] == param
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"temprature": 1}, "temprature is no field that this server knows"),
        ({"min_tokens": 5}, "min_tokens is 5: a least number of tokens is not offered"),
        ({"stream_options": {"usage": True}}, "stream_options.usage is no field"),
        ({"n": 0}, "n is 0: it must be at least 1"),
        ({"n": 1000}, "n = 1000 are more than"),
        ({"n": 1.5}, "n is 1.5"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"stop": ["a"] * 17}, "there are 17 stop strings"),
        ({"stop": ["a" * 2000]}, "a stop string has 2000 characters"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs is 21: it must be from 0 to 20"),
        ({"top_logprobs": 2}, "top_logprobs needs logprobs"),
        ({"logit_bias": {"a": 1}}, "keys are token ids"),
        ({"logit_bias": {"1" * 5000: 1}}, "keys are token ids"),
        ({"logit_bias": {"1": 1e39}}, "number of at most 1e20"),
        ({"logit_bias": {"999": 1}}, "logit_bias holds token 999"),
        ({"logit_bias": {str(place): 1 for place in range(1025)}}, "at most 1024 may be biased"),
        ({"top_p": 0}, "top_p is 0"),
        ({"prediction": {"type": "content", "content": 3}}, "prediction.content is 3"),
        ({"prediction": {"content": "a" * 10**6}}, "the prediction has 1000000 characters"),
        ({"guided_regex": "a" * 70_000}, "the grammar has 70000 characters: at most 65536 are compiled"),
        ({"guided_choice": ["a" * 70_000]}, "the list of choices has 70009 characters: at most 65536"),
    ],
)
def test_a_field_is_refused_by_name(chat, fields, message):
    status, body = chat(**fields)
    assert status == 400
    assert message in body["error"]["message"]


def test_a_field_that_changes_nothing_is_named(http):
    reply = post(http, {"messages": HELLO, "max_tokens": 2, "user": "me", "store": True, "min_tokens": 0, "seed": None})
    assert reply.status_code == 200
    assert reply.headers["x-outrider-ignored"] == "user, store"


def test_paths_and_methods_that_there_are_not(http):
    assert set(http.get("/v1/messages").json()) == {"type", "error"}
    assert http.get("/v1/models/nothing").json()["error"]["code"] == "model_not_found"
    assert http.get("/v1/nothing").status_code == 404
    assert http.get("/v1/chat/completions").status_code == 405
    assert http.head("/v1/chat/completions").status_code == 405
    assert "error" in http.get("/v1/nothing").json()


def test_bodies_of_other_kinds_are_refused(http):
    """A web page of somebody else may send these without asking first."""
    reply = http.post("/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert reply.status_code == 415


def test_ten_megabytes_are_read_or_refused(http):
    long = "a" * (10 * 2**20 - 1000)
    reply = post(http, {"messages": [{"role": "user", "content": long}]})
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert post(http, b" " * (10 * 2**20 + 1)).status_code == 413
    assert http.get("/health").json() == {"status": "ok"}


def test_lists_without_end_are_refused_before_they_are_read(http):
    """Each takes time in the one thread that serves all."""
    for body in ({"prompt": [1] * 2**18}, {"prompt": "a", **{f"f{place}": 1 for place in range(2**18)}}):
        assert post(http, body, "/v1/completions").status_code in (400, 413)
    assert post(http, {"prompt": [1] * (2**18 + 2)}, "/v1/completions").status_code == 413
    reply = post(http, {"prompt": [1] * 5000}, "/v1/completions")
    assert reply.json()["error"]["code"] == "context_length_exceeded"


def test_bodies_that_come_at_once_are_bounded_and_short_ones_are_taken():
    limits = Limits(bodies_bytes=3 * 2**20)
    long = b" " * (2 * 2**20)
    with running(service(limits=limits)) as address, httpx.Client(base_url=address, timeout=PATIENCE) as http:
        host, port = address.removeprefix("http://").split(":")
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {len(long) + 1}\r\n\r\n".encode()
        until = time.monotonic() + PATIENCE
        status = 0
        while status != 429:  # it may be the other one that is refused
            assert time.monotonic() < until
            with socket.create_connection((host, int(port))) as other:
                other.sendall(head + long)
                reply = post(http, long)
                status = reply.status_code
                assert post(http, {"messages": HELLO, "max_tokens": 2}).status_code == 200
        assert reply.headers["retry-after"] == "1"
        while post(http, long).status_code != 400:  # it has left
            assert time.monotonic() < until


def test_a_long_body_without_a_length_is_cut_off(http):
    def pieces():
        for _ in range(12):
            yield b" " * 2**20

    reply = http.post("/v1/chat/completions", content=pieces(), headers={"content-type": "application/json"})
    assert reply.status_code == 413


class HeldUp:
    """A request whose second half comes while the server itself is held up, by more than a body may take."""

    def __init__(self):
        self.headers = {"content-type": "application/json"}

    async def stream(self):
        yield b"{"
        time.sleep(0.2)
        for _ in range(3):
            await asyncio.sleep(0)  # the server looks at its timers
        yield b"}"


def test_a_server_that_was_held_up_does_not_blame_its_clients():
    assert asyncio.run(Bodies(Limits(body_seconds=0.1)).read(HeldUp())) == b"{}"


def test_other_pages_may_not_ask():
    with running(service()) as closed, running(service(), cors_origins=["http://page"]) as opened:
        headers = {"origin": "http://page", "access-control-request-method": "POST"}
        path = "/v1/chat/completions"
        assert "access-control-allow-origin" not in httpx.options(closed + path, headers=headers).headers
        assert httpx.options(opened + path, headers=headers).headers["access-control-allow-origin"] == "http://page"


def test_keys():
    with (
        running(service(api_keys=("right", "other"))) as address,
        httpx.Client(base_url=address, timeout=PATIENCE) as http,
    ):
        body = {"messages": HELLO, "max_tokens": 2}
        assert post(http, body).status_code == 401
        assert post(http, body, authorization="Bearer wrong").json()["error"]["code"] == "invalid_api_key"
        for headers in ({"authorization": "Bearer right"}, {"authorization": "bearer other"}, {"x-api-key": "right"}):
            assert post(http, body, **headers).status_code == 200
        assert http.get("/v1/models").status_code == http.get("/metrics").status_code == 401
        assert http.get("/health").status_code == 200
        wrong = post(http, body | {"model": "spoken"}, "/v1/messages", **{"x-api-key": "wrong"})
        assert wrong.json()["error"]["type"] == "authentication_error"


def test_a_body_that_does_not_come_is_not_waited_for():
    with running(service(limits=Limits(body_seconds=0.2))) as address:
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            head = "POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            connection.sendall(f"{head}content-length: 2\r\n\r\n{{".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")


def test_a_prediction_is_counted(chat):
    _, body = chat("abc", temperature=0, max_tokens=14)
    text = body["choices"][0]["message"]["content"]
    prediction = {"type": "content", "content": f"#{text[:5]}#{text[5:]}"}
    _, body = chat("abc", temperature=0, max_tokens=14, prediction=prediction)
    assert body["choices"][0]["message"]["content"] == text
    details = body["usage"]["completion_tokens_details"]
    assert (details["accepted_prediction_tokens"], details["rejected_prediction_tokens"]) == (14, 2)
    assert body["timings"]["draft_n_accepted"] > 0


@pytest.mark.parametrize(
    "predicted, output, expected",
    [([], [1], 0), ([1], [], 0), ([1, 2, 3], [3, 1, 2], 2), ([1, 1, 2], [1, 2, 2], 2), ([1, 2, 3] * 40, [2] * 50, 40)],
)
def test_what_appeared_is_the_longest_common_subsequence(predicted, output, expected):
    assert appeared(predicted, output) == expected


def test_tokens_and_back(http):
    found = post(http, {"prompt": "hé", "return_token_strs": True}, "/tokenize").json()
    assert (found["tokens"], found["count"], found["token_strs"][0]) == ([104, 195, 169], 3, "h")
    assert post(http, {"tokens": found["tokens"]}, "/detokenize").json()["prompt"] == "hé"
    assert post(http, {"messages": HELLO}, "/tokenize").json()["count"] == 7
    assert post(http, {"tokens": [-1]}, "/detokenize").status_code == 400
    assert post(http, {"content": "a" * (2**20 + 1)}, "/tokenize").status_code == 400


@pytest.mark.parametrize("path", ["/", "/style.css", "/health", "/v1/models", "/v1/models/spoken", "/metrics"])
def test_head_is_what_get_says_without_its_body(http, path):
    head, whole = http.head(path), http.get(path)
    assert (head.status_code, head.headers["content-type"]) == (whole.status_code, whole.headers["content-type"])
    assert head.content == b""
    if path != "/metrics":  # which counts what was asked
        assert head.headers["content-length"] == str(len(whole.content))
