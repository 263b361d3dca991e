"""Opens models in a process of its own, which a file may end or hold up without harm to the tests."""

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

START = 60.0  # seconds until the process has imported what it needs
LONGEST = 10.0  # seconds for a file; refusals take a few milliseconds


class Opener:
    """Opens one file after the other. A process that ended or was too slow is replaced for the next file."""

    def __init__(self):
        self._process = None
        self._lines = queue.Queue()

    def refusal(self, file):
        """What the ModelError says with which the file is refused.

        Raises AssertionError where it is opened, ends the process, takes longer than LONGEST or fails otherwise.
        """
        if self._process is None:
            self._start()
        print(json.dumps(str(file)), file=self._process.stdin, flush=True)
        kind, said = self._next(LONGEST, f"{Path(file).name} is neither opened nor refused")
        assert kind == "ModelError", f"{Path(file).name}: {kind} {said}"
        return said

    def close(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None

    def _start(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
        )
        self._lines = queue.Queue()
        threading.Thread(target=_read, args=(self._process.stdout, self._lines), daemon=True).start()
        self._next(START, "outrider is not imported")

    def _next(self, seconds, otherwise):
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise AssertionError(f"{otherwise} after {seconds:g} seconds") from None
        if not line:
            code = self._process.wait()
            self.close()
            raise AssertionError(f"{otherwise}: the process ended with {code}")
        return json.loads(line)


def _read(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put("")


def _serve():
    import outrider

    print(json.dumps(["ready", ""]), flush=True)
    for line in sys.stdin:
        try:
            found = ["opened", repr(outrider.load(json.loads(line), threads=1))]
        except Exception as error:
            found = [type(error).__name__, str(error)]
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _serve()
