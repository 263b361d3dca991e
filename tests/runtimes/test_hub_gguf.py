"""GGUF files of the hub by llama.cpp's names, from a hub on this machine; and files that are divided."""

import importlib.util
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

import outrider
from outrider import ModelError
from outrider.runtimes.base import Pass
from tiny import gguf as tiny_gguf
from tiny import native as tiny_native
from tiny.sessions import text

pytest.importorskip("huggingface_hub")
tiny_native.library()

from outrider.runtimes.files.hub_gguf import choose  # noqa: E402 (needs huggingface_hub)

FILES = [
    "README.md",
    "mmproj-F16.gguf",
    "tiny-IQ4_XS.gguf",
    "tiny-Q4_K_M.gguf",
    "tiny-Q4_K_S.gguf",
    "tiny-UD-Q4_K_XL.gguf",
    "BF16/tiny-BF16-00001-of-00002.gguf",
    "BF16/tiny-BF16-00002-of-00002.gguf",
    "tiny.q5_1.gguf",
]


@pytest.mark.parametrize(
    "which, expected",
    [
        ("", "tiny-Q4_K_M.gguf"),
        ("q4_k_s", "tiny-Q4_K_S.gguf"),
        ("Q4_K_XL", "tiny-UD-Q4_K_XL.gguf"),
        ("UD-Q4_K_XL", "tiny-UD-Q4_K_XL.gguf"),
        ("Q5_1", "tiny.q5_1.gguf"),
        ("tiny-IQ4_XS.gguf", "tiny-IQ4_XS.gguf"),
    ],
)
def test_a_name_means_the_file_that_it_means_to_llama_cpp(which, expected):
    assert choose(FILES, which, "some/tiny-GGUF") == [expected]


def test_all_parts_are_taken_in_their_order():
    parts = ["BF16/tiny-BF16-00001-of-00002.gguf", "BF16/tiny-BF16-00002-of-00002.gguf"]
    assert choose(FILES[::-1], "bf16", "some/tiny-GGUF") == parts
    with pytest.raises(ModelError, match=r"lacks BF16/tiny-BF16-00002-of-00002\.gguf"):
        choose(FILES[:-2], "BF16", "some/tiny-GGUF")


def test_a_quantisation_that_is_not_there_is_refused_with_those_that_are():
    for which in ("Q4_K", "Q8_0", "mmproj"):
        with pytest.raises(
            ModelError, match=r"there are tiny-BF16-00001-of-00002\.gguf, tiny-IQ4_XS\.gguf, "
        ) as refused:
            choose(FILES, which, f"some/tiny-GGUF:{which}")
        assert "mmproj-" not in str(refused.value)
    assert choose(["README.md", "model.safetensors"], "", "some/gguf-notes") == []
    assert choose(["b.gguf", "a.gguf"], "", "some/GGUF") == ["a.gguf"]


@pytest.mark.parametrize("name", ["some/tiny-GGUF:Q4_K_M", "some/tiny-GGUF", "some/model"])
def test_the_clients_absence_is_one_line(name, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: find(module) if "hub" not in module else None)
    with pytest.raises(ModelError, match=f"^model {name} is not on this machine.*pip install huggingface_hub$"):
        outrider.load(name)


@pytest.fixture
def hub():
    """A hub with files by repository; yields its address and the files, which may be set."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def answer(self, with_body):
            path = self.path.partition("?")[0].removeprefix("/")
            body = files.get(path.replace("/resolve/main/", "/").replace(f"/resolve/{'c' * 40}/", "/"))
            if path == "api/models/some/tiny-GGUF":
                siblings = [{"rfilename": name.removeprefix("some/tiny-GGUF/")} for name in files]
                body = json.dumps({"id": "some/tiny-GGUF", "sha": "c" * 40, "siblings": siblings}).encode()
            self.send_response(404 if body is None else 200)
            if body is None:
                self.send_header("X-Error-Code", "EntryNotFound" if "tiny-GGUF" in path else "RepoNotFound")
            self.send_header("ETag", f'"{abs(hash(body)):x}"')
            self.send_header("X-Repo-Commit", "c" * 40)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            if with_body:
                self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", files
    server.shutdown()
    server.server_close()


def test_a_name_of_llama_cpp_is_downloaded_once_and_generates(tmp_path, hub):
    address, files = hub
    made = tiny_gguf.save(tmp_path / "made.gguf", words=tiny_gguf.WORDS)
    for name in ("tiny-Q4_K_M.gguf", "tiny-F32.gguf"):
        files[f"some/tiny-GGUF/{name}"] = made.read_bytes()

    def generate(model, **environment):
        command = [sys.executable, "-m", "outrider", "generate", "the cat", "-m", model]
        command += ["-n", "3", "--ignore-chat-template", "--json"]
        found = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", **environment}
        return subprocess.run(command, env={**os.environ, **found}, capture_output=True, text=True, timeout=100)

    ran = generate("some/tiny-GGUF:F32")
    assert ran.returncode == 0, ran.stderr
    expected = json.loads(ran.stdout)["tokens"]
    assert list((tmp_path / "home").rglob("tiny-F32.gguf"))
    assert not list((tmp_path / "home").rglob("tiny-Q4_K_M.gguf"))  # nothing else is fetched
    again = generate("some/tiny-GGUF:f32", HF_HUB_OFFLINE="1")
    assert json.loads(again.stdout)["tokens"] == expected
    for model, words in (
        ("some/tiny-GGUF:Q6_K", "names no file: there are tiny-F32.gguf, tiny-Q4_K_M.gguf"),
        ("some/other-GGUF", "the hub has no model some/other-GGUF"),
    ):
        refused = generate(model)
        assert refused.returncode == 2
        assert words in refused.stderr.replace("\n", " ")
        assert "Traceback" not in refused.stderr


@pytest.fixture
def divided(tmp_path, monkeypatch):
    """A file in parts, and the same whole."""
    gguf = pytest.importorskip("gguf")
    whole = tiny_gguf.save(tmp_path / "tiny.gguf")
    write = gguf.GGUFWriter
    monkeypatch.setattr(gguf, "GGUFWriter", lambda *given: write(*given, split_max_tensors=9))
    tiny_gguf.save(tmp_path / "parts.gguf")
    monkeypatch.undo()
    return sorted(tmp_path.glob("parts-*.gguf")), whole


def test_a_divided_file_is_the_same_model(divided, tmp_path):
    parts, whole = divided
    assert len(parts) == 4
    tokens, found = None, []
    for file in (parts[0], whole):
        model = outrider.load(file, backend="native", threads=1)
        tokens = tokens or text(model, 20)
        session = model.open(1, 32)
        found.append(session.extend(Pass([0], [tokens])).logits.copy())
    assert np.array_equal(*found)
    for backend in ("native", "llama"):
        with pytest.raises(ModelError, match=r"part 2 of 4: give the first, NAME-00001-of-00004\.gguf"):
            outrider.load(parts[1], backend=backend)
    parts[3].unlink()
    with pytest.raises(ModelError, match=r"parts-00004-of-00004\.gguf"):
        outrider.load(parts[0], backend="native")
    with pytest.raises(ModelError, match="one of 4 parts: call it NAME-00001-of-00004"):
        outrider.load(parts[0].rename(tmp_path / "other.gguf"), backend="native")


def test_parts_that_do_not_belong_together_are_refused(divided):
    from outrider.runtimes.llamacpp.header import read_header
    from outrider.runtimes.native.parts import with_all_parts

    parts, whole = divided
    header = read_header(parts[0])
    assert len(with_all_parts(parts[0], header).tensors) == len(read_header(whole).tensors)
    for lie in (b"4", 2.5, -4):
        with pytest.raises(ModelError, match="it does not say of how many parts it is"):
            with_all_parts(parts[0], replace(header, values=header.values | {"split.count": lie}))
    with pytest.raises(ModelError, match="weights and it says 5"):
        with_all_parts(parts[0], replace(header, values=header.values | {"split.tensors.count": 5}))
    second = parts[1].read_bytes()
    parts[1].write_bytes(second.replace(b"blk.0.ffn_up.weight", b"blk.0.attn_q.weight"))
    with pytest.raises(ModelError, match=r"it has blk\.\S+, which an earlier part has too"):
        with_all_parts(parts[0], header)
    parts[1].write_bytes(parts[2].read_bytes())
    with pytest.raises(ModelError, match="it is not part 2 of 4, as its name says"):
        outrider.load(parts[0], backend="native")


def test_a_download_that_stops_in_mid_file_is_one_line(monkeypatch):
    """The hub's client passes errors of its HTTP library on."""
    from outrider.runtimes.files import hub

    class RemoteProtocolError(Exception):
        pass

    def stop(*arguments, **settings):
        raise RemoteProtocolError("peer closed connection\nwithout sending complete message body")

    for name in ("hf_hub_download", "snapshot_download"):
        monkeypatch.setattr(hub, name, stop)
    monkeypatch.setattr(hub, "require_hub", lambda name: None)
    for fetch in (hub.fetch, lambda name: hub.fetch_file(name, "x"), lambda name: hub.fetch_listed(name, "x")):
        with pytest.raises(ModelError, match="cannot be downloaded: peer closed connection") as refusal:
            fetch("some/tiny-GGUF")
        assert "\n" not in str(refusal.value)
