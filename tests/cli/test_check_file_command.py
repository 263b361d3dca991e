"""`outrider check FILE.py`: what it shows, and its exit status."""

import json
from pathlib import Path

import pytest

from outrider.check.learner import check

SOLUTIONS = Path(__file__).resolve().parents[1] / "check" / "solutions"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr("outrider.cli.learner.check_solution.__kwdefaults__", {**KEYWORDS, "seconds": 0.7})


KEYWORDS = dict(check.check_solution.__kwdefaults__)


def test_a_right_file_passes(outrider):
    status, out, err = outrider("check", SOLUTIONS / "right_numpy.py", "--task", 2, "--task", 3)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "right_numpy.py, tried with NumPy"
    assert lines[2].startswith("task 2 verify_speculation passed")
    assert lines[3].startswith("task 3 AdaptiveSpeculator passed")
    assert "called wrong in less than 1 of 1,000,000 runs" in lines[-1]


def test_a_mistake_is_told_with_its_smallest_example(outrider):
    status, out, _ = outrider("check", SOLUTIONS / "from_target.py")
    assert status == 1
    text = " ".join(out.split())
    assert "task 1 SpeculativeDecoder not defined" in text
    assert "task 2 verify_speculation: correction drawn from the target" in text
    assert "p = [0.15 0.15 0.30 0.40], q = [0.55 0.25 0.15 0.05], draft token 0 rejected in" in text
    assert "right 0.0 % 0.0 % 30.0 % 70.0 % 0.0 %" in text
    assert "remedy: Draw it from max(p - q, 0), divided by its sum." in text


def test_an_error_of_the_file_is_shown_with_its_line_and_without_control_characters(outrider, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def verify_speculation(draft, p, q):\n    raise ValueError('\\x1b[31m[bold]red')\n")
    status, out, err = outrider("check", path)
    assert (status, err) == (1, "")
    assert "ValueError: ␛[31m[bold]red" in out
    assert "line 2, in verify_speculation: raise ValueError(" in out
    assert "Traceback" not in out


def test_json_tells_the_same(outrider):
    status, out, _ = outrider("check", SOLUTIONS / "no_bonus.py", "--task", 2, "--framework", "numpy", "--json")
    told = json.loads(out)
    assert status == 1
    assert (told["passed"], told["false_alarms"], told["framework"]) == (False, 1e-6, "numpy")
    (task,) = told["tasks"]
    assert (task["task"], task["state"]) == (2, "wrong")
    assert [mistake["name"] for mistake in task["mistakes"]] == ["no bonus token"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["nothing.py"], "nothing.py is not there"),
        ([SOLUTIONS], "is a folder"),
        ([SOLUTIONS / "count.py", "--task", "5"], "--task is 5: it must be from 1 to 4"),
        ([SOLUTIONS / "count.py", "--task", "1"], "count.py does not define SpeculativeDecoder"),
        ([SOLUTIONS / "count.py", "--model", "x"], "leave out flags of models and prompts"),
        ([SOLUTIONS / "count.py", "--framework", "jax"], "--framework"),
        (["--task", "1"], "--task and --framework are for a file of yours"),
    ],
)
def test_wrong_use_is_refused_in_one_line(outrider, arguments, message):
    status, out, err = outrider("check", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_the_progress_tells_every_step(tmp_path):
    steps = []
    check.check_solution(SOLUTIONS / "bounds.py", progress=lambda done, total: steps.append((done, total)))
    assert steps[0] == (0, 5)
    assert steps[-1] == (5, 5)
