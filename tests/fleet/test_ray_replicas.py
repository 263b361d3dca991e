"""`outrider serve --replicas 2` over processes of Ray, one of which is killed: make test-ray."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

pytest.importorskip("ray")
pytest.importorskip("torch")
psutil = pytest.importorskip("psutil")
httpx = pytest.importorskip("httpx")
pytestmark = [pytest.mark.ray, pytest.mark.slow]

STREAMS = 4
MINUTES = 2


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    from tiny import model

    folder = model.save_bytes(tmp_path_factory.mktemp("target"), context=4096)
    for name in ("config.json", "generation_config.json"):  # a text that never ends by itself
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, "eos_token_id": None}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["-m", folder, "--backend", "torch", "--dtype", "float32", "--port", port, "--max-rows", 4, "-a", "it"]
    command = [sys.executable, "-m", "outrider", "serve", "--replicas", "2", *map(str, flags)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        found = f"http://127.0.0.1:{port}"
        until(lambda: server.poll() is not None or ready(found) == 2)
        yield found, server
    finally:
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
    assert server.returncode == 0, said
    assert "Traceback" not in said


def until(true):
    ends = time.monotonic() + 60 * MINUTES
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.2)


def ready(url):
    try:
        return httpx.get(f"{url}/health").json()["replicas"]
    except httpx.HTTPError:
        return 0


def body(prompt, count, **more):
    return {"model": "it", "prompt": prompt, "max_tokens": count, "temperature": 0, **more}


def ask(url, prompt, count=20):
    return httpx.post(f"{url}/v1/completions", json=body(prompt, count), timeout=120)


def servers(process):
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if name(child).startswith("ray::_Server")]


def name(process):
    try:
        return (process.cmdline() or [""])[0]
    except psutil.Error:  # it has ended
        return ""


def test_a_killed_replica_loses_only_its_streams_in_progress(url):
    url, process = url
    texts = [ask(url, f"{number} the cat").json()["choices"][0]["text"] for number in range(STREAMS)]
    lines = [[] for _ in range(STREAMS)]

    def stream(number):
        asked = body(f"{number} the cat", 3000, stream=True)
        with httpx.stream("POST", f"{url}/v1/completions", json=asked, timeout=120) as reply:
            lines[number] += (line.removeprefix("data: ") for line in reply.iter_lines() if line)

    threads = [threading.Thread(target=stream, args=(number,)) for number in range(STREAMS)]
    for thread in threads:
        thread.start()
    until(lambda: busy(url, process))
    servers(process)[0].kill()
    # What begins now, or has not begun, goes to the other one.
    assert [ask(url, f"{number} the cat").json()["choices"][0]["text"] for number in range(STREAMS)] == texts
    for thread in threads:
        thread.join()
    assert all(found[-1] == "[DONE]" for found in lines)
    lost = [found for found in lines if "error" in json.loads(found[-2])]
    assert 0 < len(lost) < STREAMS
    assert all(json.loads(found[-2])["error"]["code"] == "replica_lost" for found in lost)
    whole = [found for found in lines if found not in lost]
    assert all(json.loads(found[-2])["choices"][0]["finish_reason"] == "length" for found in whole)
    until(lambda: ready(url) == 2)


def busy(url, process):
    """Whether both replicas decode: each computes."""
    found = servers(process)
    before = [child.cpu_times().user for child in found]
    time.sleep(1)
    return all(child.cpu_times().user - then > 0.2 for child, then in zip(found, before, strict=True))


def test_metrics_count_the_texts_of_both_replicas(url):
    url, _ = url

    def tokens():
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        [line] = [line for line in lines if line.startswith("outrider:generation_tokens_total{")]
        return float(line.split()[-1])

    before = tokens()
    for number in range(STREAMS):
        ask(url, f"{number} the bird", 10)
    assert tokens() == before + 10 * STREAMS


def test_a_rolling_restart_loses_no_request(url):
    url, process = url
    old = {child.pid for child in servers(process)}
    process.send_signal(signal.SIGHUP)
    asked = 0
    until_all_are_new = time.monotonic() + 60 * MINUTES
    while old & {child.pid for child in servers(process)} or ready(url) < 2:
        assert time.monotonic() < until_all_are_new
        assert ask(url, f"{asked} the dog").status_code == 200
        asked += 1
    assert asked > 2
