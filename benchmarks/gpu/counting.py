"""What a round launches and reads, counted as PyTorch dispatches it: after a profiler all would be slower."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from outrider.runtimes.torch.cuda.device import Cuda, Device, Host, Work

# Operations that launch nothing: views, and memory that is not filled.
FREE = (
    *("view", "_unsafe_view", "reshape", "slice", "select", "expand", "permute", "transpose", "t.", "unsqueeze"),
    *("squeeze", "split", "unbind", "narrow", "alias", "detach", "as_strided", "empty", "new_empty", "resize"),
)


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is active.

    Attributes:
        launches: operations on the device, copies from the host among them; a replayed graph is one.
        reads: copies to the host, each of which waits for the device. None of them is seen where the device is the CPU.
    """

    def __init__(self, place: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._place = place
        self._replaying = False
        self.launches = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).removeprefix("aten.")
        if self._replaying or name.startswith(FREE):
            return result
        there = self._is_there(result)
        if not there and self._is_there(args):
            self.reads += 1
        self.launches += there
        return result

    def counts(self) -> tuple[int, int]:
        return self.launches, self.reads

    def of(self, device: Device) -> Device:
        """The same device, whose replayed graphs are counted."""
        counted = Cuda(device.place) if isinstance(device, Cuda) else Host(device.place)
        capture = counted.capture

        def counting(work: Work) -> Work:
            replay = capture(work)

            def counted_replay() -> None:
                self.launches += 1
                self._replaying = True
                try:
                    replay()
                finally:
                    self._replaying = False

            return counted_replay

        counted.capture = counting  # type: ignore[method-assign]
        return counted

    def _is_there(self, values: Any) -> bool:
        several = values if isinstance(values, tuple | list) else (values,)
        return any(isinstance(each, torch.Tensor) and each.device.type == self._place.type for each in several)
