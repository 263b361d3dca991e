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
        (["--max-tokens", 0], "--max-tokens is 0: it must be at least 1"),
        (["--api-key", ""], "an --api-key is empty"),
        (["--predict", "text"], "--predict is for one answer"),
        (["--host", "256.1.1.1"], "the server cannot listen on 256.1.1.1"),
        (
            ["--drafter", "suffix", "--drafter-state", "absent.npz", "--api-key", "a", "--api-key", "b"],
            "--drafter-state is for the drafters lookup and recycling",
        ),
        (["--learn"], "--learn trains a draft head and --drafter is"),
        (["--learn", "-md", "mtp"], "head mtp is no EAGLE-3 head"),
        (["--learn", "-md", "smollm2-head", "--api-key", "a", "--api-key", "b"], "give --share-memory too"),
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
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.loads(reply.read())


def test_it_serves_until_it_is_asked_to_end(outrider, folder, monkeypatch):
    monkeypatch.setenv("OUTRIDER_API_KEY", "secret")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = {}

    def client():
        for _ in range(6000):
            try:
                ask(port, "/health")
                break
            except OSError:
                time.sleep(0.02)
        try:
            found["models"] = [each["id"] for each in ask(port, "/v1/models")["data"]]
            body = {"messages": [{"role": "user", "content": "the cat"}], "logit_bias": {"2": -100}}
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
        "serve", "-m", folder, "--port", port, "--alias", "mine", "--max-rows", 2, "--alias", "me", "-n", 5
    )
    thread.join()
    assert status == 0, err
    assert f"http://127.0.0.1:{port}" in err
    assert found["models"] == ["mine", "me"]
    assert found["chat"]["model"] == "mine"
    assert found["chat"]["usage"]["completion_tokens"] == 5
    assert found["status"] == 401


def served(outrider, flags, client):
    """Runs a server while the client asks; returns what the client found."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    found = []

    def ask_and_end():
        for _ in range(6000):
            try:
                ask(port, "/health")
                break
            except OSError:
                time.sleep(0.02)
        try:
            found.append(client(port))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask_and_end)
    thread.start()
    status, _, err = outrider("serve", "--port", port, "--max-rows", 2, *flags)
    thread.join()
    assert status == 0, err
    return found[0]


def drafted(port, key):
    """How many tokens were drafted for a greedy text, which says what the memory of its key knows."""
    body = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 30, "temperature": 0}
    timings = ask(port, "/v1/chat/completions", body, key)["timings"]
    return timings["draft_n"], timings["draft_n_accepted"]


KEYS = ("--api-key", "one", "--api-key", "two")


def test_each_key_has_a_memory_and_a_file_of_its_own(outrider, folder, tmp_path):
    state = tmp_path / "state.npz"
    flags = ["-m", folder, "--drafter", "recycling", "--drafter-state", state, "--num-draft-tokens", 4, *KEYS]
    first, again = served(outrider, flags, lambda port: (drafted(port, "one"), drafted(port, "one")))
    assert again != first  # the key learned from its own text
    files = list(tmp_path.iterdir())
    assert len(files) == 2
    assert not any(key in file.name for file in files for key in ("one", "two"))
    one, two = served(outrider, flags, lambda port: (drafted(port, "one"), drafted(port, "two")))
    assert one != first  # what it learned was kept
    assert two == first  # and the other key sees nothing of it


def recycled(port, key):
    """How many tokens the first round of a text drafts from what earlier texts taught."""
    body = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 6, "temperature": 0}
    reply = ask(port, "/v1/chat/completions", body | {"outrider": {"rounds": True}}, key)
    first = reply["choices"][0]["outrider"]["rounds"][0]
    return sum("recycling" in token["source"] for token in first["drafted"])


def test_merged_drafters_have_a_memory_for_each_key(outrider, folder, draft_folder):
    flags = ["-m", folder, "--draft-model", draft_folder, "--drafter", "merged", "--num-draft-tokens", 4]

    def client(port):
        return [recycled(port, key) for key in ("one", "one", "two")]

    first, again, other = served(outrider, [*flags, *KEYS], client)
    assert first == other == 0
    assert again > 0
    assert served(outrider, [*flags, *KEYS, "--share-memory"], client)[2] > 0


def test_a_request_names_a_drafter_and_a_rule(outrider, folder):
    def client(port):
        found = {}
        body = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 20, "temperature": 0.8, "seed": 3}
        for name, asked in {
            "plain": {"drafter": "none", "rule": "coupled"},
            "suffix": {"drafter": "suffix", "rule": "coupled"},
            "lookup": {"drafter": "lookup", "rule": "coupled"},
            "recycling": {"rule": "coupled"},
            "chains": {"rule": "block"},
            "suffix in blocks": {"drafter": "suffix", "rule": "block"},
        }.items():
            reply = ask(port, "/v1/chat/completions", body | {"speculative": asked, "outrider": {"rounds": True}})
            found[name] = reply["choices"][0]["message"]["content"]
        found["drafters"] = ask(port, "/v1/models")["data"][0]["outrider"]["drafters"]
        try:
            ask(port, "/v1/chat/completions", body | {"speculative": {"drafter": "head"}})
        except urllib.error.HTTPError as error:
            found["refusal"] = json.loads(error.read())["error"]["message"]
        return found

    found = served(outrider, ["-m", folder, "--drafter", "recycling", "--num-draft-tokens", 4], client)
    assert found["plain"] == found["suffix"] == found["lookup"] == found["recycling"]
    assert found["drafters"] == ["recycling", "lookup", "suffix", "suffix-tree", "none"]
    assert found["refusal"] == (
        "speculative.drafter is 'head': this server has recycling, lookup, suffix, suffix-tree and none"
    )


def test_a_rule_that_judges_no_trees_is_refused_where_the_drafter_has_no_other(outrider, folder, draft_folder):
    def client(port):
        body = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": 5}
        try:
            ask(port, "/v1/chat/completions", body | {"speculative": {"rule": "block"}})
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())["error"]["message"]

    flags = ["-m", folder, "--draft-model", draft_folder, "--drafter", "model-tree", "--num-draft-tokens", 4]
    status, message = served(outrider, flags, client)
    assert status == 400
    assert message.startswith("rule block judges chains, and drafter model proposes trees: use rule token")
