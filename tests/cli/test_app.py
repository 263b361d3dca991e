"""What all commands have in common: interrupts, errors of one line, closed pipes, quick help."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from calls import PROMPT

from outrider.cli.app import SUMMARIES


def test_an_interrupt_sums_up_what_there_is(outrider, folder, monkeypatch):
    def write(self, event):
        sys.stdout.write(event.text)
        if event.index == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("outrider.cli.render.PlainWriter.write", write)
    status, out, err = outrider("generate", PROMPT, "-m", folder, "-n", 40)
    assert status == 130
    assert out.endswith("\n")
    assert err.startswith("stopped · ")
    assert "Traceback" not in err


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_real_interrupt_ends_with_its_status(folder, name, status):
    # No text ends by itself: stop tokens are biased away.
    arguments = [PROMPT, "-m", str(folder), "-n", "200000", "--logit-bias", "2=-inf", "--drafter", "none"]
    code = (
        "import signal, sys; from outrider.cli import render, main; plain = render.PlainWriter.write\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts with it ignored\n"
        "def write(self, event):\n"
        "    plain(self, event)\n"
        f"    event.index == 9 and signal.raise_signal(signal.{name})\n"
        "render.PlainWriter.write = write; main()"
    )
    command = [sys.executable, "-c", code, "generate", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == status
    assert "stopped · " in done.stderr
    assert "Traceback" not in done.stderr


def test_what_was_not_foreseen_is_one_line_and_verbose_says_where(outrider, folder, monkeypatch):
    def broken(*arguments, **settings):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("outrider.load", broken)
    status, out, err = outrider("generate", "x")
    assert (status, out) == (1, "")
    assert len(err.strip().splitlines()) == 1
    assert "--verbose" in err
    assert "Traceback" in outrider("generate", "x", "--verbose")[2]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full disk to try")
def test_a_full_disk_is_no_error_inside(folder):
    command = [sys.executable, "-m", "outrider.cli", "generate", PROMPT, "-m", str(folder), "-n", "5"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=os.environ, check=False)
    assert (done.returncode, done.stderr) == (2, "error: the output cannot be written: No space left on device\n")


def test_a_closed_pipe_ends_quietly(folder):
    command = [sys.executable, "-m", "outrider.cli", "generate", PROMPT, "-m", str(folder), "-n", "200"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait() == 0


@pytest.mark.parametrize("module", ["outrider", "numpy", "outrider.engine.engine", "outrider.cli.app"])
def test_an_interrupt_during_the_imports_is_no_traceback(module):
    metadata = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    place, _, function = metadata["project"]["scripts"]["outrider"].partition(":")
    code = (
        f"import sys, {place}\n"
        "class Key:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == '{module}': raise KeyboardInterrupt\n"
        f"sys.meta_path.insert(0, Key()); {place}.{function}()"
    )
    command = [sys.executable, "-c", code, "generate", "hi"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "arguments, slow",
    [
        ([["--version"], ["--help"], ["nosuch"]], ("numpy", "asyncio", "outrider.engine")),
        ([[name, "--help"] for name in SUMMARIES], ("torch", "transformers", "mlx", "matplotlib")),
    ],
)
def test_help_is_quick_to_load(arguments, slow):
    code = (
        f"import sys\nfrom outrider.cli.app import run\nfor each in {arguments}: run(each)\n"
        f"sys.exit(any(module in sys.modules for module in {slow}))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, check=False)
    assert done.returncode == 0


def test_help_says_of_each_command_what_the_command_says(outrider):
    for name, summary in SUMMARIES.items():
        _, out, _ = outrider(name, "--help")
        assert summary in " ".join(out.split())


@pytest.mark.parametrize("arguments", [("--verbose", "trace", "/no/such/file"), ("trace", "/no/such/file", "-v")])
def test_verbose_stands_before_a_command_or_behind_it(outrider, arguments):
    status, _, err = outrider(*arguments)
    assert status == 2
    assert "Traceback" in err
    assert err.strip().splitlines()[-1].startswith("error: ")
