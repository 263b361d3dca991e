"""Which attention kernels PyTorch may choose while a model reads a text that grows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def without_cudnn() -> Iterator[None]:
    """Leave out cuDNN, which builds a plan for every length of text that it meets for the first time.

    On an H100 that takes 60 milliseconds, and the other kernels take a tenth of one for all (docs/gpu.md). The switch
    is PyTorch's own and counts for the whole process.
    """
    before = bool(torch.backends.cuda.cudnn_sdp_enabled())  # type: ignore[no-untyped-call]
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)
