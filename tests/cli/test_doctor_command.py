"""`outrider doctor`: what is installed, and what a measured curve means."""

import json

import pytest

from outrider.check.timing import Cost
from outrider.cli import doctor
from outrider.cli.doctor import what_follows
from tiny.native import library


def test_doctor_reports_and_measures(outrider, folder):
    status, out, err = outrider("doctor", "-m", folder, "--context", 16, "--json")
    assert status == 0, err
    report = json.loads(out)
    assert report["packages"]["torch"]
    assert [cost["tokens"] for cost in report["curve"]["costs"]] == [1, 2, 3, 4, 6, 8, 12, 16]
    assert report["curve"]["costs"][0]["relative"] == 1


def test_doctor_is_readable_and_says_what_follows(outrider, folder):
    status, out, err = outrider("doctor", "-m", folder, "--context", 16)
    assert status == 0, err
    assert "installed" in out
    assert "processor" in out
    assert folder.name in out.partition("time to score new tokens")[2]
    assert "Verifying 8 tokens costs" in " ".join(out.split())


def test_doctor_without_a_curve_needs_no_model(outrider):
    status, out, _ = outrider("doctor", "--no-curve", "--json")
    assert status == 0
    assert "curve" not in json.loads(out)


def test_doctor_says_why_a_library_of_another_version_is_not_used(outrider, monkeypatch):
    monkeypatch.setattr(library(), "INTERFACE", 0)
    _, out, _ = outrider("doctor", "--no-curve")
    assert "not used: the compiled library outrider_native has interface 0" in " ".join(out.split())


def test_doctor_breaks_no_path_that_fits_into_80_columns(outrider, monkeypatch):
    paths = [f"/home/user/.cache/outrider/{name}-135M-Instruct.Q4_0.gguf" for name in ("SmolLM2", "Other")]
    monkeypatch.setattr(doctor, "_models", lambda: {"smollm2": paths[0], paths[1]: doctor.CONVERTED})
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = outrider("doctor", "--no-curve")
    lines = [line.split() for line in out.splitlines()]
    assert ["smollm2", paths[0]] in lines
    assert ["converted", paths[1]] in lines


def test_doctor_refuses_a_context_that_the_model_lacks(outrider, folder):
    status, _, err = outrider("doctor", "-m", folder, "--context", 250)
    assert status == 2
    assert "give 240 or less" in err


@pytest.mark.parametrize(
    "relative, words", [(1.0, "more than about 1%"), (1.7, "adds 10% of a plain step"), (8.5, "cannot pay")]
)
def test_doctor_puts_a_curve_into_words(relative, words):
    assert words in what_follows([Cost(1, 0.01, 1.0), Cost(8, 0.01 * relative, relative), Cost(16, 1.0, 100.0)])
