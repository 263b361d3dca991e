"""Clients that leave or stall, a full queue, failures in the middle, and a server that is asked to end."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import numpy as np
import pytest

from outrider import Drafter, TableModel
from outrider.server import Limits
from server.conftest import PATIENCE, running, service
from tiny import spoken

HELLO = [{"role": "user", "content": "hello"}]
LONG = {"messages": HELLO, "max_tokens": 4000, "ignore_eos": True, "stream": True, "seed": 1}
SHORT = {"messages": HELLO, "max_tokens": 5, "seed": 1}
PATH = "/v1/chat/completions"


class Dying(Drafter):
    def propose(self, sequences, budgets):
        raise RuntimeError("the drafter dies")


@contextmanager
def served(engine=None, *, small_buffers=False, **settings):
    found = service(engine, **settings)
    with (
        running(found, small_buffers=small_buffers) as address,
        httpx.Client(base_url=address, timeout=PATIENCE) as http,
    ):
        yield found, http


def rows(found):
    """How many texts are decoded, and how many wait."""
    return asyncio.run(found.call(lambda engine: (len(engine.active), len(engine.waiting))))


def becomes(condition):
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def left(found, http):
    """How many texts were ended because their client left, once nothing is decoded any more."""
    becomes(lambda: rows(found) == (0, 0))
    counts = [line for line in http.get("/metrics").text.splitlines() if 'finished_reason="abort"' in line]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counts if "_total" in line)


def connected(http, body):
    """A connection on which a request was sent, and of which nothing is read."""
    host, port = str(http.base_url).removeprefix("http://").rstrip("/").split(":")
    text = json.dumps(body).encode()
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect((host, int(port)))
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    found.sendall(head.encode() + text)
    return found


def begun(reply):
    """The lines of a stream whose text has begun. Whoever drops them drops the connection."""
    lines = reply.iter_lines()
    while '"content":"' not in (line := next(lines)) or '"role"' in line:
        pass
    return lines


class Slow(TableModel):
    """Takes a millisecond for each pass."""

    def last_logits(self, tokens, count):
        time.sleep(0.001)
        return super().last_logits(tokens, count)


def slow():
    fast = spoken.model()
    return Slow(fast.table, name="slow", stop_token_ids=frozenset([spoken.END]), tokenizer=fast.tokenizer)


@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_a_stream_frees_its_rows(n):
    with served({"target": slow()}) as (found, http):
        with http.stream("POST", PATH, json=LONG | {"n": n}) as reply:
            lines = begun(reply)
            assert rows(found)[0] == n
            lines.close()
        assert left(found, http) == n
        assert http.post(PATH, json=SHORT).status_code == 200


def test_a_client_that_leaves_before_the_answer_frees_its_row():
    with served({"target": slow()}) as (found, http):
        with connected(http, LONG | {"stream": False}):
            becomes(lambda: rows(found) == (1, 0))
        assert left(found, http) == 1


def test_a_full_queue_is_said_at_once():
    with served({"target": slow(), "max_rows": 1, "max_waiting": 1}) as (found, http):
        with http.stream("POST", PATH, json=LONG) as first, http.stream("POST", PATH, json=LONG) as second:
            lines = begun(first)
            assert second.status_code == 200  # it waits for a row
            reply = http.post(PATH, json=SHORT)
            assert reply.status_code == 429
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.json()["error"]["type"] == "rate_limit_error"
            assert http.post(PATH, json=SHORT | {"n": 2}).status_code == 429
            lines.close()
        assert left(found, http) == 2
        assert 'request_refused_queue_full_total{model_name="spoken"} 2.0' in http.get("/metrics").text


def test_a_client_that_reads_nothing_is_dropped_and_others_go_on():
    """Here that it happens over a connection; test_replies.py has the time that a client is given."""
    body = LONG | {"n": 3, "logprobs": True, "top_logprobs": 20}
    with served(small_buffers=True, limits=Limits(stalled_seconds=0.3)) as (found, http), connected(http, body):
        becomes(lambda: rows(found)[0] == 3)
        assert http.post(PATH, json=SHORT).status_code == 200
        assert left(found, http) == 3


def test_a_model_that_says_nonsense_fails_that_text_alone():
    table = spoken.model().table.copy()
    table[ord("!")] = np.nan
    target = TableModel(table, stop_token_ids=frozenset([spoken.END]), tokenizer=spoken.ByteTokenizer())
    with served({"target": target}) as (_, http):
        bad = {"prompt": "a!", "max_tokens": 4}
        reply = http.post("/v1/completions", json=bad)
        assert (reply.status_code, reply.json()["error"]["type"]) == (500, "server_error")
        with http.stream("POST", "/v1/completions", json=bad | {"stream": True}) as stream:
            lines = [line for line in stream.iter_lines() if line]
        assert "logit of nan" in json.loads(lines[0].removeprefix("data: "))["error"]["message"]
        assert lines[-1] == "data: [DONE]"
        assert http.post(PATH, json=SHORT).status_code == 200


def test_a_stream_of_a_response_that_fails_ends_with_an_error_of_its_own_kind():
    spoiled = TableModel(
        np.full_like(spoken.model().table, np.nan),
        stop_token_ids=frozenset([spoken.END]),
        tokenizer=spoken.ByteTokenizer(),
    )
    with served({"target": spoiled}) as (_, http):
        bad = {"input": "hello", "max_output_tokens": 4, "stream": True}
        with http.stream("POST", "/v1/responses", json=bad) as stream:
            lines = [line for line in stream.iter_lines() if line]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert lines[-2] == "event: error"
    assert events[-1]["type"] == "error"
    assert "logit of nan" in events[-1]["message"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_drafter_that_dies_changes_no_answer(http):
    expected = http.post(PATH, json=SHORT).json()["choices"][0]["message"]["content"]
    with served({"drafter": Dying()}) as (_, other):
        assert other.post(PATH, json=SHORT).json()["choices"][0]["message"]["content"] == expected
        assert 'drafter_failures{model_name="spoken"} 1.0' in other.get("/metrics").text


def test_an_engine_that_dies_is_no_longer_healthy():
    with served() as (found, http):
        asyncio.run(found.call(lambda engine: setattr(engine, "step", _dies)))
        becomes(lambda: not found.alive)
        assert http.get("/health").status_code == 503
        assert http.post(PATH, json=SHORT).status_code == 503


def _dies():
    raise MemoryError("the engine dies")


def test_counters_have_the_names_of_vllm():
    with served() as (_, http):
        reply = http.post(PATH, json=SHORT | {"max_tokens": 60, "temperature": 0}).json()
        text = http.get("/metrics").text
    numbers = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line[0] != "#"}
    label = '{model_name="spoken"}'
    timings = reply["timings"]
    assert numbers[f"outrider:spec_decode_num_draft_tokens_total{label}"] == timings["draft_n"]
    assert numbers[f"outrider:spec_decode_num_accepted_tokens_total{label}"] == timings["draft_n_accepted"]
    assert 0 < numbers[f"outrider:spec_decode_num_drafts_total{label}"] < 60
    assert numbers[f"outrider:generation_tokens_total{label}"] == 60
    assert numbers[f"outrider:prompt_tokens_total{label}"] == 6  # the last one is not read, but decoded
    assert numbers[f"outrider:time_to_first_token_seconds_count{label}"] == 1
    assert numbers[f"outrider:request_queue_time_seconds_count{label}"] == 1
    assert numbers[f"outrider:speculation_gain{label}"] > 0
    first = 'outrider:spec_decode_num_accepted_tokens_per_pos_total{model_name="spoken",position="0"}'
    assert 0 < numbers[first] <= timings["draft_n_accepted"]


SERVER = """
import socket, sys, threading
from outrider.server import create_app
from outrider.server.running import run
from server.conftest import service
from server.test_hostile import Held
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), told.set()), daemon=True).start()
run(create_app(service({"target": Held.until(told)})), listening)
print("ended", flush=True)
"""


class Held(TableModel):
    """Says a hundred tokens, and goes on once it is told to."""

    @classmethod
    def until(cls, told):
        fast = spoken.model()
        held = cls(fast.table, name="held", stop_token_ids=frozenset([spoken.END]), tokenizer=fast.tokenizer)
        held.told = told
        return held

    def last_logits(self, tokens, count):
        if len(tokens) > 100:
            self.told.wait()
        return super().last_logits(tokens, count)


@contextmanager
def streaming():
    """A server in a process of its own, its address, and the lines of a text that goes on once the process is told."""
    command, pipe = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{SERVER}"], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with httpx.stream("POST", address + PATH, json=LONG | {"max_tokens": 400}, timeout=PATIENCE) as reply:
            lines = reply.iter_lines()
            next(lines)
            yield process, address, lines
        assert process.stdout.readline() == "ended\n"
        assert process.wait(PATIENCE) == 0
        assert process.stderr.read() == ""


def test_sigterm_finishes_what_runs_and_refuses_what_comes():
    with streaming() as (process, address, lines):
        process.send_signal(signal.SIGTERM)
        becomes(lambda: refuses_to_connect(address))
        assert process.poll() is None
        process.stdin.write("go on\n")
        process.stdin.flush()
        found = [json.loads(line[6:]) for line in lines if line and line != "data: [DONE]"]
    assert found[-1]["choices"][0]["finish_reason"] == "length"


def test_a_second_interrupt_ends_what_runs_without_a_traceback():
    with streaming() as (process, address, lines):
        process.send_signal(signal.SIGINT)
        becomes(lambda: refuses_to_connect(address))
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.stdin.write("go on\n")
        process.stdin.flush()
        with pytest.raises(httpx.HTTPError):
            list(lines)


def refuses_to_connect(address):
    host, port = address.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return True
    return False
