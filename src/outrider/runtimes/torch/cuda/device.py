"""What the session asks of a device: pinned memory, captured work, and the end of a pass.

`Cuda` is a GPU. `Host` is the CPU, with the same calls: capturing there returns the work itself, which then runs again
on the same static buffers, as a graph does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch

from outrider.runtimes.base import at_once
from outrider.runtimes.host_memory import free_host_bytes
from outrider.runtimes.torch.attention import without_cudnn
from outrider.runtimes.torch.cuda.attention import TreeAttention, attention_for, reference_attention
from outrider.runtimes.torch.placement import free_bytes

Work = Callable[[], None]


class Device(Protocol):
    """Where a session runs.

    Attributes:
        place: of its tensors.
    """

    place: torch.device

    def free_bytes(self) -> int | None:
        """Free memory; None if unknown."""

    def attention(self) -> TreeAttention:
        """What attends on it."""

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        """Work within it runs on this device."""

    def host_area(self, size: int) -> torch.Tensor:
        """int64 [size] on the host, from which a copy to the device need not wait."""

    def mark(self) -> Work:
        """What waits until all work launched so far is done. It waits for that alone, not for the whole device."""

    def fetch(self, found: torch.Tensor) -> Callable[[], np.ndarray[Any, Any]]:
        """Launch a copy to the host behind all work so far; what waits for it."""

    def capture(self, work: Work) -> Work:
        """What runs `work` again, on the same memory, in one launch. `work` has run before."""


class Cuda:
    """An NVIDIA GPU, or one of AMD under ROCm.

    Work goes to PyTorch's current stream of the device, so that other code on this stream needs no events.
    """

    def __init__(self, place: torch.device) -> None:
        self.place = place
        self._pool: Any = None  # memory of all graphs: no two run at once, and none keeps anything of it
        self._stream: Any = None

    def free_bytes(self) -> int | None:
        return free_bytes(self.place)

    def attention(self) -> TreeAttention:
        return attention_for(self.place)

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        stack = contextlib.ExitStack()
        stack.enter_context(torch.cuda.device(self.place))
        stack.enter_context(without_cudnn())
        return stack

    def host_area(self, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.int64, pin_memory=True)

    def mark(self) -> Work:
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event.synchronize

    def fetch(self, found: torch.Tensor) -> Callable[[], np.ndarray[Any, Any]]:
        # PyTorch keeps such memory for the next one.
        here = torch.empty(found.shape, dtype=found.dtype, pin_memory=True)
        here.copy_(found, non_blocking=True)
        wait = self.mark()

        def read() -> np.ndarray[Any, Any]:
            wait()
            return here.numpy()

        return read

    def capture(self, work: Work) -> Work:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
            # PyTorch's own stream for captures is one of the device that captured first.
            self._stream = torch.cuda.Stream(self.place)  # type: ignore[no-untyped-call]
        graph = torch.cuda.CUDAGraph()
        # Other threads, of a server for instance, may use the device meanwhile.
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            work()
        replay: Work = graph.replay
        return replay


class Host:
    """The CPU in place of a GPU, for tests and for trying the code where there is none.

    On a GPU's own `place` it is that GPU without captured graphs and without kernels of ours.
    """

    def __init__(self, place: torch.device | None = None) -> None:
        self.place = torch.device("cpu") if place is None else place

    def free_bytes(self) -> int | None:
        return free_host_bytes()

    def attention(self) -> TreeAttention:
        return reference_attention

    def guard(self) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def host_area(self, size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.int64)

    def mark(self) -> Work:
        return at_once

    def fetch(self, found: torch.Tensor) -> Callable[[], np.ndarray[Any, Any]]:
        return lambda: np.asarray(found.cpu().numpy())

    def capture(self, work: Work) -> Work:
        return work


def device_at(place: torch.device) -> Device:
    return Cuda(place) if place.type == "cuda" else Host(place)
