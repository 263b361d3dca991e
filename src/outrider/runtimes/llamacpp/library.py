"""llama.cpp's library: started once, its log silenced, its errors kept for our messages."""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque

import llama_cpp

# Where an assertion of llama.cpp fails after all, it would start a debugger, which writes to standard output.
os.environ.setdefault("GGML_NO_BACKTRACE", "1")
ERROR_LEVEL = 4
CONTINUED = 5  # the rest of the line before


class _Complaints:
    """The last error lines of llama.cpp's log. There is one log per process, and so one of these."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=8)
        self._level = 0
        # ctypes does not hold a reference to a callback.
        self._callback = llama_cpp.llama_log_callback(self._hear)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()

    def _hear(self, level: int, text: bytes, user_data: object) -> None:
        if level != CONTINUED:
            self._level = level
        line = text.decode(errors="replace").strip()
        if self._level == ERROR_LEVEL and line:
            self._lines.append(line)

    def take(self) -> str:
        """The first error since the last call, without the name of the function."""
        lines = list(self._lines)
        self._lines.clear()
        return re.sub(r"^\w+: ", "", lines[0]) if lines else "llama.cpp does not say why"


COMPLAINTS = _Complaints()
