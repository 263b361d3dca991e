"""Clients that connect and say nothing, or too much: they are closed, and others are served."""

import asyncio
import socket
import threading
import time
from contextlib import contextmanager, nullcontext

import pytest

pytest.importorskip("httptools")
uvicorn = pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

from outrider.server.connections import careful, most_connections  # noqa: E402
from server.conftest import PATIENCE  # noqa: E402

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


begun, told = threading.Event(), threading.Event()


async def app(scope, receive, send):
    """Answers at once, whether or not the body has come; to /held once it is told to."""
    if scope["path"] == "/held":
        begun.set()
        while not told.is_set():
            await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def served(**limits):
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=careful(**({"most": 100} | limits)), lifespan="off", log_level="error")
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # of which a thread other than the main one hears nothing
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield listening.getsockname()
    finally:
        server.should_exit = True
        thread.join(10)


def connected(address, *sent):
    found = socket.create_connection(address, timeout=PATIENCE)
    for piece in sent:
        found.sendall(piece)
    return found


def ended(connection):
    """What was said until the server closed the connection."""
    said = b""
    while piece := connection.recv(4096):
        said += piece
    return said


def answer(connection):
    said = b""
    while not said.endswith(b"ok"):
        said += (piece := connection.recv(4096))
        assert piece, said
    return said


def works(address):
    host, port = address
    return httpx.get(f"http://{host}:{port}/", timeout=PATIENCE).text == "ok"


@pytest.mark.parametrize("beginning", [b"", b"POST / HTT", HEAD, HEAD + b"x: " + b"a" * 100])
def test_a_head_that_does_not_come_closes_the_connection(beginning):
    with served(seconds=0.2) as address, connected(address, beginning) as connection:
        assert works(address)
        assert ended(connection) == b""


def test_a_second_head_must_come_in_time_as_well():
    with served(seconds=0.2) as address, connected(address, HEAD + b"\r\n") as connection:
        answer(connection)
        time.sleep(0.4)  # a connection may be kept
        connection.sendall(HEAD + b"\r\n" + HEAD)
        assert ended(connection).endswith(b"ok")


def test_a_head_without_end_is_refused():
    with served(head_bytes=1000) as address:
        with connected(address, HEAD, b"x: ", b"a" * 1001) as connection:
            assert b"400" in ended(connection)
        with connected(address, HEAD, b"content-length: 5000\r\n\r\n", b"b" * 5000) as connection:
            assert answer(connection).startswith(b"HTTP/1.1 200")  # a body is no head


def test_who_is_idle_for_longest_gives_way():
    with served(most=3) as address:
        first = connected(address, HEAD)
        busy = [connected(address, HEAD + b"\r\n") for _ in range(2)]
        for connection in busy:
            answer(connection)
        assert works(address)
        assert ended(first) == b""
        assert works(address)
        assert ended(busy[0]) == b""
        for connection in (first, *busy):
            connection.close()


def test_a_request_in_progress_is_not_idle():
    with (
        served(most=1, seconds=0.2) as address,
        connected(address, b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n") as connection,
    ):
        assert begun.wait(PATIENCE)
        other = connected(address)  # there is no room, and nobody gives way but itself
        assert ended(other) == b""
        told.set()
        answer(connection)


def test_files_are_enough_for_the_connections():
    resource = pytest.importorskip("resource")
    most = most_connections()
    assert 1 <= most < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
