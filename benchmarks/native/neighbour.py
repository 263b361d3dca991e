"""What a busy process on one of the processors leaves of the speed."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.native.passes import Work, works_of
from outrider.runtimes.base import Model

SECONDS = 1.0  # of each measurement


@contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def passes_per_second(work: Work) -> float:
    work()
    started, passes = time.perf_counter(), 0
    while time.perf_counter() - started < SECONDS:
        work()
        passes += 1
    return passes / (time.perf_counter() - started)


def share_beside(model: Model, tokens: int, repeats: int) -> tuple[float, float, float]:
    """Passes per second alone and beside a busy process, in turns, and the second as a share of the first; medians."""
    work = works_of(model, [tokens])[str(tokens)]
    found = []
    for _ in range(repeats):
        alone = passes_per_second(work)
        with busy_process():
            beside = passes_per_second(work)
        found.append((alone, beside, beside / alone))
    alone, beside, share = (statistics.median(each) for each in zip(*found, strict=True))
    return alone, beside, share
