"""Every example runs. A tiny random model stands in for SmolLM2, so that none needs weights."""

import runpy
import sys
from pathlib import Path

import pytest

import outrider
from outrider.runtimes import loading
from tiny import model as tiny_model

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
ARGUMENTS = {
    "draw_tree": ["{folder}/tree.svg", "the cat sat"],
    "other_tokenizer": ["{folder}"],
    "course/pictures": ["{folder}/course.svg"],
}
OF_COURSE = ("verification", "drafting", "adaptive", "batching", "models")  # these import one another


NAMES = sorted(path.relative_to(EXAMPLES).with_suffix("").as_posix() for path in EXAMPLES.rglob("*.py"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    return tiny_model.save(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name, folder, monkeypatch, capsys):
    real = loading.load

    def load(name, **settings):
        return real(folder if name == "smollm2" else name, **settings)

    monkeypatch.setattr(loading, "load", load)
    monkeypatch.setattr(outrider, "load", load)
    arguments = [argument.format(folder=folder) for argument in ARGUMENTS.get(name, [])]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    path = EXAMPLES / f"{name}.py"
    monkeypatch.syspath_prepend(path.parent)
    for module in OF_COURSE:
        monkeypatch.delitem(sys.modules, module, raising=False)
    runpy.run_path(str(path), run_name="__main__")
    for module in OF_COURSE:
        sys.modules.pop(module, None)
    assert capsys.readouterr().out.strip()
