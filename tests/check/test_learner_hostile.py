"""Whatever a learner's file does: one clear verdict, in time, and no traceback of ours."""

import os
import time

import pytest

from outrider import InputError
from outrider.check.learner import check, process
from outrider.check.learner.check import check_solution

VERIFY = "\ndef verify_speculation(draft_tokens, target_logits, draft_logits):\n    "
ENDLESS = "it does not come to an end"
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
        ENDLESS,
        "while it is loaded (at line 1, in <module>)",
    ),
    "loops when it is called": (
        VERIFY + "while True: pass",
        ENDLESS,
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


def limited(monkeypatch, seconds):
    """Lets a file take so long: to be loaded, and for each task."""
    monkeypatch.setattr(check, "LOADING", seconds)
    monkeypatch.setattr(check, "TASK", seconds)


@pytest.fixture(scope="module")
def seconds_of_a_right_file(tmp_path_factory):
    """How long this machine takes now to load a file in a process of its own."""
    path = tmp_path_factory.mktemp("right") / "solution.py"
    path.write_text(VERIFY + "return 0, [1]")
    began = time.monotonic()
    assert process.observe(process.Request(path, None, None, 120.0, 120.0)).ending == "done"
    return time.monotonic() - began


@pytest.fixture(autouse=True)
def patient(monkeypatch, seconds_of_a_right_file):
    """What ends by itself may take as long as a busy machine needs."""
    limited(monkeypatch, 4.0 + 8 * seconds_of_a_right_file)


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_a_file_that(behaviour, tmp_path, capfd, monkeypatch, seconds_of_a_right_file):
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))  # a loop ends in time, whatever else runs here
    text, mistake, example = HOSTILE[behaviour]
    if mistake == ENDLESS:
        limited(monkeypatch, 2.0 + 4 * seconds_of_a_right_file)
    path = tmp_path / "solution.py"
    path.write_text(text)
    report = check_solution(path, tasks=[2], seconds=0.5)
    findings = [finding for verdict in report.verdicts for finding in verdict.findings]
    assert [finding.name for finding in findings] == [mistake]
    assert example in " ".join(findings[0].example)
    assert not report.passed
    assert capfd.readouterr() == ("", "")


class Clock:
    """Half a second goes by whenever it is read, up to 5; then the file is told to go on, and time stands still."""

    def __init__(self, told):
        self._begun, self._gone, self._told = time.monotonic(), 0.0, told

    def monotonic(self):
        if self._gone < 5.0:
            self._gone += 0.5
        else:
            self._told.touch()
        return self._begun + self._gone


def test_a_busy_machine_is_given_more_time(tmp_path, monkeypatch):
    told, path = tmp_path / "told", tmp_path / "solution.py"
    path.write_text(
        f"import os, time\nwhile not os.path.exists({str(told)!r}):\n    time.sleep(0.01)" + VERIFY + "return 5"
    )
    limited(monkeypatch, 3.0)
    found = {}
    for load in (0.0, 1000.0):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, load, load))
        monkeypatch.setattr(process, "time", Clock(told))
        (verdict,) = check_solution(path, tasks=[2], seconds=0.5).verdicts
        found[load] = verdict.findings[0].name
    assert found == {0.0: ENDLESS, 1000.0: "a result of another form"}


@pytest.mark.parametrize("load, patience", [(0.0, 1.0), (2.0, 1.0), (3.0, 1.5), (10.0, 5.0), (1000.0, 5.0)])
def test_how_much_more_goes_by_how_many_want_each_core(monkeypatch, load, patience):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("os.getloadavg", lambda: (4 * load, 0.0, 0.0))
    assert process.patience() == patience


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
    for _ in range(1200):
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
