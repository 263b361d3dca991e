"""What a client sees where replicas are lost: nothing before its text begins, and an error of its dialect after it."""

import asyncio
import json

import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")

from outrider.fleet.door import create_door  # noqa: E402
from outrider.fleet.replicas import Replicas  # noqa: E402
from outrider.server import Limits  # noqa: E402

STREAM = {"content-type": "text/event-stream"}


class Actors:
    def __init__(self):
        self.started = 2

    async def start(self):
        self.started += 1
        return self.started, f"http://replica-{self.started}"

    def kill(self, handle):
        pass

    async def answers(self, handle, url):
        return True


class Pieces(httpx.AsyncByteStream):
    """A body in pieces; an error among them breaks the connection."""

    def __init__(self, pieces):
        self._pieces = pieces

    async def __aiter__(self):
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece


def asked(answer, path="/v1/completions", body=b'{"prompt": "x"}', method="POST", **headers):
    """The reply of the door, and the requests that replicas saw, where they answer like this."""
    seen = []

    async def handle(request):
        seen.append((request.url.host, request.url.raw_path.decode(), request.content, dict(request.headers)))
        return answer(len(seen), request)

    async def go():
        replicas = Replicas(Actors(), rows=2, drain_seconds=1)
        app = create_door(
            replicas,
            [(1, "http://replica-1"), (2, "http://replica-2")],
            Limits(body_bytes=1000),
            transport=httpx.MockTransport(handle),
        )
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://door")
        async with app.router.lifespan_context(app), client:
            reply = await client.request(method, path, content=body, headers=headers)
            await asyncio.sleep(0.01)
            assert all(replica.active == 0 for replica in replicas.ready)
            return reply

    return asyncio.run(go()), seen


def test_a_request_and_its_reply_are_handed_on_as_they_are():
    fields = {"x-outrider-ignored": "user", "content-type": "application/json"}
    reply, seen = asked(
        lambda _, request: httpx.Response(201, headers=fields, stream=Pieces([b'{"a"', b": 1}"])),
        "/v1/chat/completions?x=1",
        authorization="Bearer key",
    )
    assert (reply.status_code, reply.json(), reply.headers["x-outrider-ignored"]) == (201, {"a": 1}, "user")
    [(_, path, body, headers)] = seen
    assert (path, body, headers["authorization"]) == ("/v1/chat/completions?x=1", b'{"prompt": "x"}', "Bearer key")
    page, _ = asked(lambda _, request: httpx.Response(200, stream=Pieces([b"page"])), "/", b"", "GET")
    assert page.text == "page"


@pytest.mark.parametrize("broken", [[], [b'{"half'], [httpx.ReadError("gone")], [b"half", httpx.ReadError("gone")]])
def test_a_reply_that_has_not_begun_is_asked_of_another_replica(broken):
    def answer(number, request):
        if number == 1:
            if not broken:
                raise httpx.ConnectError("refused")
            return httpx.Response(200, stream=Pieces([*broken, httpx.RemoteProtocolError("cut")]))
        return httpx.Response(200, stream=Pieces([b'{"fine": true}']))

    reply, seen = asked(answer)
    assert reply.json() == {"fine": True}
    assert len({host for host, *_ in seen}) == len(seen) == 2


@pytest.mark.parametrize(
    "path, said",
    [
        ("/v1/completions", '"type":"server_error"'),
        ("/v1/messages", "event: error"),
        ("/v1/responses", '"sequence_number":2'),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_of_its_dialect(path, said):
    pieces = [b"data: 1\n", b"\ndata: 2\n\nda", b"ta: 3", httpx.ReadError("gone")]
    reply, seen = asked(lambda _, request: httpx.Response(200, headers=STREAM, stream=Pieces(pieces)), path)
    assert len(seen) == 1
    assert reply.text.startswith("data: 1\n\ndata: 2\n\n")
    assert "data: 3" not in reply.text
    assert said in reply.text
    assert "the replica that made this text was lost: ask again" in reply.text


def test_methods_that_there_are_not_are_refused_in_the_shape_of_the_dialect():
    fine = lambda _, request: httpx.Response(200)  # noqa: E731
    reply, seen = asked(fine, "/v1/messages", method="PUT")
    assert (reply.status_code, reply.json()["type"], seen) == (405, "error", [])
    assert set(asked(fine, method="PUT")[0].json()["error"]) == {"message", "type", "param", "code"}


def test_a_stream_that_breaks_before_its_first_event_is_asked_again():
    def answer(number, request):
        broken = [b"data: 1", httpx.ReadError("gone")] if number == 1 else [b"data: 1\n\n", b"data: [DONE]\n\n"]
        return httpx.Response(200, headers=STREAM, stream=Pieces(broken))

    reply, seen = asked(answer)
    assert reply.text == "data: 1\n\ndata: [DONE]\n\n"
    assert len(seen) == 2


def counted(tokens):
    return f"# TYPE outrider:generation_tokens_total counter\noutrider:generation_tokens_total {tokens}\n"


def test_metrics_are_those_of_all_replicas():
    def answer(number, request):
        return httpx.Response(200, text=counted(10 if request.url.host == "replica-1" else 5))

    reply, seen = asked(answer, "/metrics", b"", "GET", authorization="Bearer key")
    assert sorted(host for host, *_ in seen) == ["replica-1", "replica-2"]
    assert all(headers["authorization"] == "Bearer key" for *_, headers in seen)
    assert "outrider:generation_tokens_total 15.0\n" in reply.text
    assert reply.headers["content-type"].startswith("text/plain")


def test_metrics_without_the_replicas_key_are_refused_in_their_words():
    refusal = {"error": {"message": "the API key is missing or wrong"}}
    reply, _ = asked(lambda _, request: httpx.Response(401, json=refusal), "/metrics", b"", "GET")
    assert (reply.status_code, reply.json()) == (401, refusal)


def test_metrics_leave_a_lost_replica_out():
    def answer(number, request):
        if request.url.host == "replica-1":
            raise httpx.ConnectError("refused")
        return httpx.Response(200, text=counted(5))

    reply, _ = asked(answer, "/metrics", b"", "GET")
    assert "outrider:generation_tokens_total 5.0\n" in reply.text


def test_what_the_door_refuses_itself():
    reply, seen = asked(lambda _, request: httpx.Response(200, stream=Pieces([])), body=b"x" * 2000)
    assert (reply.status_code, seen) == (413, [])
    reply, seen = asked(lambda _, request: httpx.Response(200, stream=Pieces([])), body=json.dumps([1]).encode())
    assert (reply.status_code, len(seen)) == (200, 1)  # the replica refuses it in its own words
    reply, seen = asked(lambda _, request: httpx.Response(200, stream=Pieces([])), body=b"[" * 990)
    assert (reply.status_code, len(seen)) == (200, 1)  # that as well
    reply, _ = asked(None, "/health", b"", "GET")
    assert reply.json() == {"status": "ok", "replicas": 2}
    reply, _ = asked(None, "/health", b"", "HEAD")
    assert (reply.status_code, reply.content) == (200, b"")
