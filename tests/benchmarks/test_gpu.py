"""The script for a GPU runs without one, so that a short time on a GPU is not lost to it."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.gpu.__main__ import SECTIONS, main

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
