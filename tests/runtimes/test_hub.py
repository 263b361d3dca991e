"""Models of the hub: asked by its own client, so that proxies and mirrors count, and refused at once without it."""

import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from outrider import ModelError

huggingface_hub = pytest.importorskip("huggingface_hub")
hub = pytest.importorskip("outrider.runtimes.hub")


@pytest.fixture
def mirror(monkeypatch):
    """A server on a port of its own; yields its address and what it is asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(200 if "/there/" in self.path else 404)
            if "/there/" not in self.path:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("ETag", '"x"')
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("Content-Length", "2")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()


def through(monkeypatch, endpoint):
    url = huggingface_hub.hf_hub_url
    monkeypatch.setattr(hub, "hf_hub_url", lambda name, file: url(name, file, endpoint=endpoint))


def test_a_mirror_on_a_port_of_its_own_is_asked(monkeypatch, mirror):
    address, asked = mirror
    through(monkeypatch, address)
    hub.require_hub("is/there")
    assert any("is/there" in path for path in asked)
    with pytest.raises(ModelError, match="no model not/here that you may read"):
        hub.require_hub("not/here")


def test_a_hub_that_cannot_be_reached_is_said_to_be_so_at_once(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    through(monkeypatch, "http://127.0.0.1:9")
    start = time.perf_counter()
    with pytest.raises(ModelError, match=r"^model not/here is not on this machine[^\n]*cannot be reached[^\n]*folder"):
        hub.require_hub("not/here")
    assert time.perf_counter() - start < 10


def test_offline_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        hub.require_hub("not/here")
