"""A server on loopback in a thread, with a tiny model: as clients see it."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
uvicorn = pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

from outrider import Engine, SamplingParams, SuffixDrafter  # noqa: E402
from outrider.server import Service, ServiceSettings, create_app  # noqa: E402
from tiny import spoken  # noqa: E402

PATIENCE = 120  # seconds that a test waits for what must come, on however busy a machine


def open_engine(observer, **settings):
    given = {"rule": "coupled", "lookahead": 6, "max_rows": 4, "max_waiting": 64} | settings
    target = given.pop("target", None) or spoken.model()
    drafter = given.pop("drafter", None) or SuffixDrafter(min_survival=0.01)
    return Engine(target, drafter, observer=observer, **given)


def service(engine=None, **settings):
    given = {"models": ("spoken", "other"), "sampling": SamplingParams(), "rule": "coupled"} | settings
    return Service(lambda observer: open_engine(observer, **(engine or {})), ServiceSettings(**given))


@contextmanager
def running(found, *, small_buffers=False, **settings):
    """Serves in a thread; yields the address.

    Args:
        small_buffers: the system takes little that a client has not read.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    if small_buffers:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = uvicorn.Server(uvicorn.Config(create_app(found, **settings), log_level="warning"))
    server.capture_signals = _no_signals  # of which a thread other than the main one hears nothing
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@contextmanager
def _no_signals():
    yield


@pytest.fixture(scope="session")
def address():
    """A server that several tests share."""
    with running(service()) as found:
        yield found


@pytest.fixture(scope="session")
def http(address):
    with httpx.Client(base_url=address, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="session")
def client(address):
    """The official client of OpenAI."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as found:
        yield found


@pytest.fixture
def chat(http):
    """Posts a chat request; returns (status, body)."""

    def post(content="hello", **fields):
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 12, "seed": 1} | fields
        reply = http.post("/v1/chat/completions", json=body)
        return reply.status_code, reply.json()

    return post
