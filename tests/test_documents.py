"""The Python in the documents runs as it stands. A tiny random model stands in for SmolLM2: no weights are needed.

The blocks of a document are one program, from top to bottom, as a reader would type them.
"""

import re
from pathlib import Path

import pytest

import outrider
from outrider.runtimes import loading
from tiny import model as tiny_model

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEED_LETTERS = ("docs/structured.md",)  # grammars of letters, which words cannot follow
SERVED = ("docs/serving.md",)  # run against a server, in tests/server/test_serving_document.py
PROGRAMS = {
    str(path.relative_to(ROOT)): "\n\n".join(blocks)
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if (blocks := BLOCK.findall(path.read_text("utf-8"))) and str(path.relative_to(ROOT)) not in SERVED
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return tiny_model.save(tmp_path_factory.mktemp("model"), context=1024)


def test_the_readme_has_python():
    assert "README.md" in PROGRAMS


@pytest.fixture(scope="module")
def bytes_folder(folder, tmp_path_factory):
    return tiny_model.save_bytes(tmp_path_factory.mktemp("bytes"))


@pytest.mark.parametrize("document", PROGRAMS)
def test_the_python_of_a_document_runs(document, folder, bytes_folder, monkeypatch, capsys):
    real = loading.load
    if document in NEED_LETTERS:
        pytest.importorskip("llguidance")
        folder = bytes_folder

    def load(name, **settings):
        return real(folder if name in ("smollm2", "draft-folder") else name, **settings)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(outrider, "load", load)
    exec(compile(PROGRAMS[document], document, "exec"), {})
