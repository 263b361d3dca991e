"""`outrider serve`: what is refused before a model is opened, and a server that serves and ends."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

for name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(name)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--port", 70000], "--port is 70000: it must be from 0 to 65535"),
        (["--max-body-mb", 0], "--max-body-mb is 0"),
        (["--api-key", ""], "an --api-key is empty"),
        (["--predict", "text"], "--predict is for one answer"),
        (["--host", "256.1.1.1"], "the server cannot listen on 256.1.1.1"),
        (
            ["--drafter", "lookup", "--drafter-state", "absent.npz", "--api-key", "a", "--api-key", "b"],
            "--drafter-state learns from all texts",
        ),
    ],
)
def test_flags_that_are_refused(outrider, folder, flags, message):
    status, _, err = outrider("serve", "-m", folder, *flags)
    assert status == 2
    assert message in err


def test_a_port_that_is_taken_is_refused(outrider, folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, _, err = outrider("serve", "-m", folder, "--port", taken.getsockname()[1])
    assert status == 2
    assert "Address already in use" in err


def ask(port, path, body=None, key="secret"):
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, headers)
    with urllib.request.urlopen(request, timeout=20) as reply:
        return json.loads(reply.read())


def test_it_serves_until_it_is_asked_to_end(outrider, folder, monkeypatch):
    monkeypatch.setenv("OUTRIDER_API_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = {}

    def client():
        for _ in range(1000):
            try:
                ask(port, "/health")
                break
            except OSError:
                time.sleep(0.02)
        try:
            found["models"] = [each["id"] for each in ask(port, "/v1/models")["data"]]
            body = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 5, "logit_bias": {"2": -100}}
            found["chat"] = ask(port, "/v1/chat/completions", body)
            try:
                ask(port, "/v1/models", key="wrong")
            except urllib.error.HTTPError as error:
                found["status"] = error.code
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=client)
    thread.start()
    status, _, err = outrider(
        "serve", "-m", folder, "--port", port, "--alias", "mine", "--max-rows", 2, "--alias", "me"
    )
    thread.join()
    assert status == 0, err
    assert f"http://127.0.0.1:{port}" in err
    assert found["models"] == ["mine", "me"]
    assert found["chat"]["model"] == "mine"
    assert found["chat"]["usage"]["completion_tokens"] == 5
    assert found["status"] == 401
