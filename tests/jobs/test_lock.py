"""One writer for a file of results, on every system."""

import pkgutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import outrider.jobs
from outrider import InputError
from outrider.jobs import ResultFile

SOURCE = Path(outrider.jobs.__file__).parents[2]
MODULES = ["outrider", *(found.name for found in pkgutil.walk_packages(outrider.jobs.__path__, "outrider.jobs."))]


def test_two_runs_do_not_write_to_one_file(tmp_path):
    with ResultFile(tmp_path / "r"), pytest.raises(InputError, match="another run writes to"):
        ResultFile(tmp_path / "r")
    ResultFile(tmp_path / "r").close()


def test_a_file_that_was_refused_may_be_taken_later(tmp_path):
    first = ResultFile(tmp_path / "r")
    for _ in range(3):
        with pytest.raises(InputError, match="another run writes to"):
            ResultFile(tmp_path / "r")
    first.close()
    with ResultFile(tmp_path / "r") as results:
        results.start()
        results.write(1, "f", {})
    assert (tmp_path / "r").read_text() == '{"id": 1, "fingerprint": "f"}\n'


def test_another_thread_may_give_the_file_up(tmp_path):
    results = ResultFile(tmp_path / "r")
    thread = threading.Thread(target=results.close)
    thread.start()
    thread.join()
    ResultFile(tmp_path / "r").close()


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from outrider.jobs import ResultFile
results = ResultFile(sys.argv[2])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_run_holds_nothing(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, str(SOURCE), str(tmp_path / "r")], check=False)
    assert (tmp_path / "r").exists()
    ResultFile(tmp_path / "r").close()


WITHOUT = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
sys.modules["fcntl"] = None  # as on Windows: importing it fails
for name in sys.argv[3:]:
    importlib.import_module(name)
with importlib.import_module("outrider.jobs").ResultFile(sys.argv[2]) as results:
    results.start()
    results.write(1, "f", {})
"""


def test_nothing_needs_fcntl(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", WITHOUT, str(SOURCE), str(tmp_path / "r"), *MODULES]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert (tmp_path / "r").read_text() == '{"id": 1, "fingerprint": "f"}\n'
    assert len(MODULES) > 4
