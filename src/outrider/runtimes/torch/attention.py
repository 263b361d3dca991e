"""Which attention kernels PyTorch may choose while a model reads a text that grows."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch


class _Switch:
    """cuDNN's, which is off while any thread wants it off. Without a count, two threads could leave it off for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = True

    def off(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
                torch.backends.cuda.enable_cudnn_sdp(False)
            self._inside += 1

    def back(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                torch.backends.cuda.enable_cudnn_sdp(self._before)


_SWITCH = _Switch()


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Switch cuDNN's attention off: it builds a plan for each new length of text.

    On an H100 a plan takes 60 milliseconds; the other kernels take 0.1 and need no plan (docs/gpu.md). The switch is
    PyTorch's own and holds for the whole process.
    """
    _SWITCH.off()
    try:
        yield
    finally:
        _SWITCH.back()
