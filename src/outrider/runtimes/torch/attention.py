"""Which attention kernels PyTorch may choose while a model reads a text that grows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Switch cuDNN's attention off: it builds a plan for each new length of text.

    On an H100 a plan takes 60 milliseconds; the other kernels take 0.1 and need no plan (docs/gpu.md). The switch is
    PyTorch's own and holds for the whole process.
    """
    before = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
