"""Models of the hub: asked by its own client, so that proxies and mirrors count, and refused at once without it."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

import outrider
from outrider import ModelError
from outrider.cli.generate import _identity
from outrider.cli.options.models import ModelOptions
from outrider.runtimes.files.fingerprint import hub_commit
from tiny import model as tiny_model

huggingface_hub = pytest.importorskip("huggingface_hub")
hub = pytest.importorskip("outrider.runtimes.files.hub")


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


def test_a_snapshot_is_opened_as_a_folder_is(tmp_path, cached_model):
    name = cached_model(tiny_model.save(tmp_path / "model"))
    model = outrider.load(name)
    assert model.name == name
    folder = outrider.load(tmp_path / "model")
    assert type(model) is type(folder)
    assert model.tokenizer.fingerprint == folder.tokenizer.fingerprint


@pytest.mark.parametrize("backend", ["torch", "mlx"])
def test_a_snapshot_that_lies_is_refused_as_a_folder_is(tmp_path, cached_model, backend):
    if backend == "mlx":
        pytest.importorskip("mlx_lm")
    folder = tiny_model.save(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.raises(ModelError, match="says num_hidden_layers is 1, and the weights have 2 layers"):
        outrider.load(cached_model(folder), backend=backend)


def test_pickled_weights_are_taken_where_there_are_no_others(tmp_path, cached_model):
    import torch
    from safetensors.torch import load_file

    folder = tiny_model.save(tmp_path / "model")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert outrider.load(cached_model(folder)).traits.layers == 2


def test_results_know_the_commit(tmp_path, cached_model):
    folder = tiny_model.save(tmp_path / "model")
    one, other = cached_model(folder, commit="a" * 40), cached_model(folder, "other", commit="b" * 40)
    assert hub_commit(one) == "a" * 40
    assert hub_commit(other) == "b" * 40
    assert hub_commit(str(folder)) is None
    assert "a" * 40 in _identity(ModelOptions(model=one))


@pytest.mark.parametrize(
    "name, words",
    [
        ("x" * 5_000, "5000 characters"),
        ("folder/" + "y" * 300, "307 characters"),
        ("x\0y", "NUL"),
        ("", "empty"),
        ("two words", "no name of the hub"),
        (None, "NoneType"),
        (b"smollm2", "bytes"),
        (object(), "object"),
    ],
)
def test_what_can_be_no_model_is_refused_in_one_line(name, words):
    with pytest.raises(ModelError, match=words) as refused:
        outrider.load(name)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
