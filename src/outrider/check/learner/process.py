"""Runs a learner's file in a process of its own, bounded in time, output and memory, and hears what was seen."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Literal

import outrider

CHILD = "outrider.check.learner.child"
MOST_OUTPUT = 16 << 20  # bytes that a file may print
MOST_TOLD = 8 << 20  # bytes of observations
CHUNK = 1 << 16
USUAL_LOAD = 2.0  # processes that want each core, up to which the limits hold as they are
MOST_PATIENCE = 5.0
GRACE = 1.0  # seconds between the dump of where the file is and the end of its process

Message = dict[str, Any]
Ending = Literal["done", "time", "flood", "gone"]


@dataclass
class Observed:
    """What a process has told.

    Attributes:
        ending: done: it came to its end; time, flood: it was ended; gone: it ended by itself.
        status: of the process where it is gone: negative for a signal.
        stage: what it did last, in words that follow "while".
        line: the line of the file at which it was, where that is known.
        printed: bytes that the file wrote to its outputs.
    """

    messages: list[Message] = field(default_factory=list)
    ending: Ending = "gone"
    status: int = 0
    stage: str = "it is started"
    line: str | None = None
    printed: int = 0

    def of(self, kind: str) -> list[Message]:
        """The messages of a kind."""
        return [message for message in self.messages if message.get("kind") == kind]


@dataclass(frozen=True, slots=True)
class Request:
    """What to observe.

    Attributes:
        task: its number; None only loads the file.
        framework: None is that which the file uses.
        seconds: of observation.
        limit: seconds after which the process is ended, on a machine that is not busy.
    """

    path: Path
    task: int | None
    framework: str | None
    seconds: float
    limit: float
    seed: int = 0


def observe(request: Request, stop: Event | None = None) -> Observed:
    """Run the process, to its end or to its limit, or until `stop` is set."""
    told, pipe = os.pipe()
    limit = request.limit * patience()
    values = {
        "path": str(request.path),
        "pipe": pipe,
        "task": request.task,
        "framework": request.framework,
        "seconds": request.seconds,
        "limit": limit,
        "dump": time.monotonic() + limit - GRACE,  # one clock for all processes of a machine
        "seed": request.seed,
    }
    process = subprocess.Popen(
        [sys.executable, "-X", "utf8", "-m", CHILD, json.dumps(values)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[pipe],
        start_new_session=True,
        env=_environment(),
    )
    os.close(pipe)
    try:
        return _listen(process, told, request.path, limit, stop or Event())
    finally:
        _end(process)
        os.close(told)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def patience() -> float:
    """How many times longer than on an idle machine a process may take: the more, the more others want the cores.

    Without it a right file would be said to run without end, where it only gets no turn.
    """
    try:
        wanted = os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:  # where the system does not tell
        return 1.0
    return min(max(wanted / USUAL_LOAD, 1.0), MOST_PATIENCE)


def _environment() -> dict[str, str]:
    """One thread, no bytecode, and the package that this process uses."""
    home = str(Path(outrider.__file__).resolve().parents[1])
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()


def _listen(process: subprocess.Popen[bytes], told: int, path: Path, limit: float, stop: Event) -> Observed:
    observed, buffer, heard = Observed(), b"", 0
    deadline = time.monotonic() + limit
    assert process.stdout is not None
    assert process.stderr is not None
    with selectors.DefaultSelector() as selector:
        for stream in (told, process.stdout.fileno(), process.stderr.fileno()):
            os.set_blocking(stream, False)
            selector.register(stream, selectors.EVENT_READ)
        while True:
            ended = process.poll() is not None
            ready = selector.select(0 if ended else min(0.2, max(deadline - time.monotonic(), 0)))
            for key, _ in ready:
                data = os.read(key.fd, CHUNK)
                if not data:
                    selector.unregister(key.fd)
                elif key.fd == told:
                    heard += len(data)
                    *lines, buffer = (buffer + data).split(b"\n")
                    _take(observed, lines, path)
                else:
                    observed.printed += len(data)
            if any(message.get("kind") == "done" for message in observed.messages):
                observed.ending = "done"
                return observed
            if ended and not any(key.fd == told for key, _ in ready):
                observed.ending, observed.status = "gone", process.returncode
                return observed
            if observed.printed > MOST_OUTPUT or heard > MOST_TOLD:
                observed.ending = "flood"
                return observed
            if time.monotonic() > deadline or stop.is_set():
                observed.ending = "time"
                return observed


def _take(observed: Observed, lines: list[bytes], path: Path) -> None:
    """Messages are lines of JSON; what is none was written by faulthandler."""
    place = re.compile(rf'File "{re.escape(str(path))}", line (\d+) in (\S+)')
    for line in lines:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            found = place.search(line.decode("utf-8", "replace"))
            if found is not None and observed.line is None:
                observed.line = f"line {found[1]}, in {found[2]}"
            continue
        if isinstance(message, dict):
            observed.messages.append(message)
            if message.get("kind") == "stage":
                observed.stage = str(message.get("what"))
