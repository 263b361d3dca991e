"""What the sections share: findings, the device, the clock."""

from __future__ import annotations

import contextlib
import gc
import json
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


class Recorder:
    """Writes findings as they come.

    Attributes:
        wrong: the findings that say so, on a line each.
    """

    def __init__(self, out: Path | None) -> None:
        self._file = out.open("a", encoding="utf-8") if out else None
        self.wrong: list[str] = []
        self.begin("start")

    def begin(self, section: str) -> None:
        """The findings from here on are of this section."""
        self.section, self.findings = section, 0

    def __call__(self, **finding: Any) -> None:
        self.findings += 1
        line = json.dumps({"section": self.section, **finding}, default=str)
        if self._file:
            self._file.write(line + "\n")
            self._file.flush()
        if finding.get("right") is False:
            self.wrong.append(" ".join(line.split()))
        brief = {name: value for name, value in finding.items() if name not in ("lines", "functions", "kernels")}
        print(f"[{self.section}] " + " ".join(f"{name}={_short(value)}" for name, value in brief.items()), flush=True)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return json.dumps(value, default=str) if isinstance(value, list | dict) else str(value)


@dataclass
class Run:
    """What the sections share.

    Attributes:
        ends: when the present section has to be over, by time.perf_counter.
        step: the only one of its steps that is tried; empty for all.
    """

    record: Recorder
    device: torch.device
    shapes: list[str]
    tiny: bool
    tests: Path
    ends: float = 0.0
    step: str = ""

    @property
    def over(self) -> bool:
        """Whether the time of the section is over. However little it was, each finds something first."""
        return self.record.findings > 0 and time.perf_counter() > self.ends

    def is_broken(self) -> bool:
        """Whether the device no longer answers, as after an illegal access of memory."""
        try:
            self.synchronize()
        except RuntimeError:
            return True
        return False

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds_of(self, work: Callable[[], Any], at_most: float = 0.3, fewest: int = 3, most: int = 30) -> list[float]:
        """Times of several runs of `work`, the device idle before and after each; one run before is not counted."""
        work()
        found: list[float] = []
        begun = time.perf_counter()
        while len(found) < fewest or (len(found) < most and time.perf_counter() - begun < at_most):
            self.synchronize()
            started = time.perf_counter()
            work()
            self.synchronize()
            found.append(time.perf_counter() - started)
        return found

    def free(self) -> None:
        """Give back the memory of models that nobody holds any more."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


@contextlib.contextmanager
def attention_of_cudnn(allowed: bool) -> Iterator[None]:
    """Whether PyTorch may choose cuDNN's attention, which builds a plan for every new length of text."""
    before = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(allowed)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def last_lines(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-900:]
