"""Runs the script's parts in a process beside this one, so that a part that hangs or breaks the device ends alone.

After an illegal access of memory every later call of the process fails. So a process that says so, dies or hangs is
replaced by another one, which goes on with the next part.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence

MARK = "@part "  # a line that begins so names the part that begins
STARTING = 150.0  # seconds until the first part begins: imports, and the device's own start
BROKEN = 3  # exit status of a process whose device no longer answers


def supervise(
    parts: Sequence[str],
    command: Callable[[Sequence[str], bool], Sequence[str]],
    limit: Callable[[str], float],
    say: Callable[[str], None],
    starting: float = STARTING,
) -> list[str]:
    """Run all parts, in as many processes as it takes.

    Args:
        command: from the parts that are left, and whether it is the first process, to what is run.
        limit: seconds after which a part is killed.
        say: called with each line that a process prints, but for marks.
        starting: seconds until the first part begins.

    Returns:
        what was wrong, on a line each: parts that were killed or died.
    """
    left, problems, first = list(parts), list[str](), True
    while left:
        process = subprocess.Popen(
            command(left, first), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        present, deadline, ended = None, time.monotonic() + starting, None
        for line in _lines(process, lambda: deadline - time.monotonic()):  # noqa: B023
            if line is None:
                process.kill()
                ended = f"{present or 'the start'} was killed: it took too long"
            elif line.startswith(MARK):
                present = line.removeprefix(MARK).strip()
                deadline = time.monotonic() + limit(present)
            else:
                say(line)
        status = process.wait()
        if status == 0:
            return problems
        problems.append(ended or f"{present or 'the start'} ended the process with status {status}")
        say(f"[apart] {problems[-1]}")
        if present is None:
            return problems  # another process would not come further
        left, first = left[left.index(present) + 1 :], False
    return problems


def _lines(process: subprocess.Popen[str], left: Callable[[], float]) -> Iterator[str | None]:
    """What a process prints, line by line; None once where its time is over, and then what is left."""
    found: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            found.put(line.rstrip("\n"))
        found.put(None)

    threading.Thread(target=read, daemon=True).start()
    over = False
    while True:
        try:
            line = found.get(timeout=None if over else max(left(), 0.01))
        except queue.Empty:
            over = True
            yield None
            continue
        if line is None:
            return
        yield line
