"""`outrider bench` on tiny models: every system is measured, and answers every question."""

import json
import re

import pytest
from calls import PROMPT

from outrider.cli.bench import questions, rows, tables
from outrider.cli.options.output import TableOptions


def test_bench_reports_every_system_and_category(outrider, folder, tmp_path):
    questions = tmp_path / "questions.jsonl"
    lines = [{"category": "cats", "turns": [PROMPT]}, {"category": "mats", "turns": ["the mat and the mat"]}]
    questions.write_text("\n".join(json.dumps(line) for line in lines))
    arguments = ("bench", "questions", questions, "-m", folder, "-n", 12, "--systems", "plain,suffix,suffix@2")
    status, out, err = outrider(*arguments, "--dtype", "float32", "--json")
    assert status == 0, err
    rows = json.loads(out)
    assert {(row["category"], row["system"]) for row in rows} == {
        (category, system) for category in ("cats", "mats", "all") for system in ("plain", "suffix", "suffix@2")
    }
    assert all(row["same_tokens"] == 1 for row in rows)


def test_bench_measures_several_rows_of_every_system(outrider, folder, tmp_path):
    questions = tmp_path / "questions.jsonl"
    turns = [" ".join([PROMPT] * count) for count in (1, 2, 1, 3, 1)]
    questions.write_text("\n".join(json.dumps({"category": "cats", "turns": [turn]}) for turn in turns))
    arguments = ("bench", "rows", questions, "-m", folder, "-n", 12, "--systems", "plain,suffix")
    status, out, err = outrider(*arguments, "--dtype", "float32", "--max-rows", 2, "--json")
    assert status == 0, err
    rows = json.loads(out)
    assert [row["system"] for row in rows] == ["plain", "suffix"]
    for row in rows:
        for kind in ("", "_with_prompts"):
            assert row["speedup" + kind] == pytest.approx(row["together" + kind] / row["alone" + kind])
        # Reading takes time, and all of it is counted.
        assert all(row[way] > row[way + "_with_prompts"] > 0 for way in ("alone", "together"))
        assert (row["rows"], row["prompts"]) == (2, len(turns))
        # All prompts were answered, in either way and by either system.
        assert row["tokens_alone"] == row["tokens_together"] == rows[0]["tokens_alone"] > 0
    status, out, _ = outrider(*arguments, "--max-rows", 2)
    assert status == 0
    assert "speed-" in out  # broken between lines where the machine is fast and numbers are wide


@pytest.mark.parametrize(
    "arguments", [("--questions", "q.jsonl"), ("--questions", "q.jsonl", "--batch", "8"), ("--simulate",)]
)
def test_flags_of_before_are_refused_with_the_new_names(outrider, arguments):
    status, out, err = outrider("bench", *arguments)
    assert (status, out) == (2, "")
    assert "outrider bench questions FILE" in err
    assert len(err.strip().splitlines()) == 1


def test_tables_are_for_people_or_markdown(outrider, folder, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"prompt": PROMPT}))
    arguments = ("bench", "questions", questions, "-m", folder, "-n", 4)
    status, out, err = outrider(*arguments)
    assert status == 0, err
    assert "speed-up over plain" in out
    status, out, _ = outrider(*arguments, "--markdown")
    assert out.startswith("| category | system |")
    assert out.endswith("speed-up over plain.\n")


def test_a_category_that_is_not_there_is_refused_with_those_that_are(outrider, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"category": "cats", "prompt": PROMPT}))
    status, _, err = outrider("bench", "questions", questions, "--categories", "dogs")
    assert status == 2
    assert "has cats: choose of these" in err


@pytest.mark.parametrize("columns", [80, 100, 120])
@pytest.mark.parametrize(
    "headings, cells",
    [
        (questions.HEADINGS, ("math_reasoning", "suffix+0", "120", "122.7", "1.33", "1.33", "2.02", "10.1%", "100%")),
        (rows.HEADINGS, ("lookup", "16", "120", "122.7", "1130.2", "11.33", "117.5", "108.5", "10.49")),
    ],
)
def test_no_heading_and_no_figure_is_cut_on_a_terminal(headings, cells, columns, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    tables.show([], headings, [cells], "remark", TableOptions())
    *lines, figures, remark = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert sorted("".join("".join(lines).split())) == sorted("".join("".join(headings).split()))
    assert tuple(figures.split()) == cells
    assert max(len(line) for line in [*lines, figures]) <= columns
    assert remark == "remark"
