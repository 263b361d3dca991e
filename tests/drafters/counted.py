"""Costs that are no times: how much code runs."""

import sys
from collections.abc import Callable


def lines_run(call: Callable[[], object], files: str) -> int:
    """How many lines a call runs of the code in files whose paths begin so."""
    lines = 0

    def trace(frame, event, argument):
        nonlocal lines
        if not frame.f_code.co_filename.startswith(files):
            return None
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines
