"""Whatever a learner's file does: one clear verdict, in time, and no traceback of ours."""

import os
import time

import pytest

from outrider import InputError
from outrider.check.learner import check
from outrider.check.learner.check import check_solution

VERIFY = "\ndef verify_speculation(draft_tokens, target_logits, draft_logits):\n    "
WRITES = """
import os
for number in range(3, 64):
    try:
        os.write(number, b'[1\\n{"kind": "names"}\\n{"kind": "done"}\\n')
    except OSError:
        pass
"""
HOSTILE = {
    # what the file holds: (the mistake, a part of its example)
    "loops when it is loaded": (
        "while True: pass",
        "it does not come to an end",
        "while it is loaded (at line 1, in <module>)",
    ),
    "loops when it is called": (
        VERIFY + "while True: pass",
        "it does not come to an end",
        "while verify_speculation is called (at line 3, in verify_speculation)",
    ),
    "exits when it is loaded": ("import sys\nsys.exit(3)", "it ends the program", "it calls sys.exit"),
    "exits when it is called": (VERIFY + "import os; os._exit(7)", "it ends the program", "exit status 7"),
    "raises when it is loaded": ("def f():\n    raise KeyError('x')\nf()", "it fails", "KeyError: 'x'"),
    "crashes": (VERIFY + "import ctypes; ctypes.string_at(0)", "it ends the program", "SIGSEGV"),
    "forks": ("import os\nos.fork()" + VERIFY + "return 5", "a result of another form", "returns a int"),
    "forks in every call": (VERIFY + "import os; os.fork(); return 5", "a result of another form", "returns a int"),
    "reads standard input": (VERIFY + "return int(input()), []", "it fails", "EOFError"),
    "replaces the streams": (
        "import sys\nsys.stdout = sys.stderr = sys.stdin = None" + VERIFY + "return 5",
        "a result of another form",
        "returns a int",
    ),
    "closes every file": ("import os\nos.closerange(0, 4096)", "it ends the program", "exit status"),
    "prints without end": ("while True: print('x' * 1000)", "it prints without end", "while it is loaded"),
    "writes to our pipe": (
        WRITES,
        "no answer",
        "",
    ),
    "is no Python": ("def verify_speculation(:", "it fails", "SyntaxError"),
    "is binary": ("\0\1\2", "it fails", "SyntaxError"),
    "takes all memory": (VERIFY + "return 0, [1] * (1 << 40)", "it fails", "MemoryError"),
    "changes our modules": (
        "import json, os, time, traceback\njson.JSONEncoder.encode = os.write = time.monotonic = None\n"
        "traceback.extract_tb = None" + VERIFY + "return 5",
        "a result of another form",
        "returns a int",
    ),
    "raises what cannot be shown": (
        "class E(BaseException):\n    def __str__(self): raise E" + VERIFY + "raise E",
        "it fails",
        "its message cannot be shown",
    ),
    "starts a thread that stays": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(999,)).start()" + VERIFY + "return 5",
        "a result of another form",
        "returns a int",
    ),
    "is not written yet": (VERIFY + "pass", "not written yet", "returns None"),
    "returns huge numbers": (VERIFY + "return 10**400, [2**70]", "the same noise in every call", ""),
    "returns no number": (VERIFY + "return float('nan'), [1]", "a result of another form", "nan"),
    "names something else": ("verify_speculation = 5", "of the wrong kind", "verify_speculation is an int: a function"),
}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(check, "LOADING", 3.0)
    monkeypatch.setattr(check, "TASK", 4.0)


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_a_file_that(behaviour, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))  # a loop ends in time, whatever else runs here
    text, mistake, example = HOSTILE[behaviour]
    path = tmp_path / "solution.py"
    path.write_text(text)
    began = time.monotonic()
    report = check_solution(path, tasks=[2], seconds=0.5)
    assert time.monotonic() - began < 12
    findings = [finding for verdict in report.verdicts for finding in verdict.findings]
    assert [finding.name for finding in findings] == [mistake]
    assert example in " ".join(findings[0].example)
    assert not report.passed
    assert capfd.readouterr() == ("", "")


def test_a_busy_machine_is_given_more_time(tmp_path, monkeypatch):
    path = tmp_path / "solution.py"
    path.write_text("import time\ntime.sleep(3.5)" + VERIFY + "return 5")
    found = {}
    for load in (0.0, 1000.0):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load))
        (verdict,) = check_solution(path, tasks=[2], seconds=0.5).verdicts
        found[load] = verdict.findings[0].name
    assert found == {0.0: "it does not come to an end", 1000.0: "a result of another form"}


def test_the_lines_of_an_error_are_those_of_the_file(tmp_path):
    path = tmp_path / "solution.py"
    path.write_text("import json\n" + VERIFY.lstrip() + "return json.loads('{')")
    (verdict,) = check_solution(path, tasks=[2], seconds=0.5).verdicts
    assert verdict.findings[0].lines == ((3, "verify_speculation", "return json.loads('{')"),)


@pytest.mark.skipif(not hasattr(os, "getpgid"), reason="of POSIX")
def test_processes_that_a_file_starts_end_with_it(tmp_path):
    pid = tmp_path / "pid"
    path = tmp_path / "solution.py"
    path.write_text(
        f"import os, time\nchild = os.fork()\nif child == 0: time.sleep(60)\nopen({str(pid)!r}, 'w').write(str(child))"
        + VERIFY
        + "return 5"
    )
    check_solution(path, tasks=[2], seconds=0.5)
    number = int(pid.read_text())
    for _ in range(50):
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {number} is still there")


@pytest.mark.parametrize("text", ["", "# nothing", "x = 1"])
def test_a_file_without_any_of_the_names_is_refused(text, tmp_path):
    path = tmp_path / "solution.py"
    path.write_text(text)
    with pytest.raises(InputError, match=r"solution\.py defines none of SpeculativeDecoder, verify_speculation"):
        check_solution(path)


def test_a_name_that_is_nearly_right_is_pointed_out(tmp_path):
    path = tmp_path / "solution.py"
    path.write_text("def verify_speculations(a, b, c): pass")
    with pytest.raises(InputError, match="is verify_speculations meant to be verify_speculation"):
        check_solution(path)
