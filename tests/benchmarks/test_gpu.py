"""The script for a GPU runs without one, so that a short time on a GPU is not lost to it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.gpu.__main__ import SECTIONS, main
from benchmarks.gpu.apart import supervise

TESTS = Path(__file__).resolve().parents[1]
QUICKLY = "0.03"  # of the time that a section may take


def findings(tmp_path, *arguments):
    out = tmp_path / "findings.jsonl"
    assert main([*arguments, "--dry", "--patience", QUICKLY, "--tests", str(TESTS), "--out", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("section", [section for section in SECTIONS if section != "tests"])
def test_what_it_checks_is_right_and_what_it_times_takes_time(section, tmp_path):
    found = [each for each in findings(tmp_path, section) if each["section"] == section]
    assert len(found) > 1
    assert not [each for each in found if each.get("right") is False]


def test_a_section_that_fails_says_so_and_the_next_one_begins(monkeypatch, tmp_path, capsys):
    def fail(run):
        raise RuntimeError("no kernel image")

    monkeypatch.setitem(SECTIONS, "first", fail)
    found = findings(tmp_path, "first", "--section", "passes")
    assert "1 wrong" in capsys.readouterr().out
    assert any("no kernel image" in each.get("error", "") for each in found)
    assert any(each["section"] == "passes" and "milliseconds" in each for each in found)


CHILD = """
import sys, time
for part in sys.argv[1:]:
    print("@part " + part, flush=True)
    print(part, "begins", flush=True)
    if part == "hangs":
        time.sleep(600)
    if part == "breaks":
        sys.exit(3)
"""


def test_a_part_that_hangs_or_breaks_its_process_ends_alone():
    lines, starts = [], []

    def command(parts, first):
        starts.append((list(parts), first))
        return [sys.executable, "-c", CHILD, *parts]

    parts = ["one", "breaks", "two", "hangs", "three"]
    problems = supervise(parts, command, lambda part: 0.5 if part == "hangs" else 60, lines.append)
    assert [line for line in lines if line.endswith("begins")] == [f"{part} begins" for part in parts]
    assert starts == [(parts, True), (parts[2:], False), (parts[4:], False)]
    assert problems == ["breaks ended the process with status 3", "hangs was killed: it took too long"]


def test_a_process_that_does_not_start_is_not_started_again():
    problems = supervise(["one"], lambda *_: [sys.executable, "-c", "1 / 0"], lambda part: 60, lambda line: None)
    assert problems == ["the start ended the process with status 1"]


HIDING = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {"transformers", "tokenizers", "safetensors", "scipy", "pydantic"}
        return None if hidden else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding if each is PathFinder else each for each in sys.meta_path]
"""


def test_pytorch_alone_is_enough(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    out, paths = tmp_path / "findings.jsonl", [str(tmp_path), str(TESTS.parent / "src")]
    subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "sessions", "rules", "greedy", "table", "--dry", "--patience", QUICKLY,
         "--out", str(out)],
        cwd=TESTS.parent, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, check=True, timeout=120,
    )  # fmt: skip
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert found[0]["transformers"] == "not installed"
    assert not [each for each in found if each.get("right") is False]
    assert {"sessions", "greedy", "table"} <= {
        each["section"] for each in found if each.get("right") or "round_ms" in each
    }
