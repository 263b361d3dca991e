"""A device that stands for a GPU: memory of the host, behind tensors that say they are on "cuda", and counts.

Within `Stand` whatever is made on "cuda" is such a tensor. It behaves like one of a GPU: it is not read as an array,
and does not mix with tensors of the host. So code for GPUs runs here as it would run there, and what it costs there is
counted: copies to the device, reads by the host, and launches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.attention.bias import CausalBias
from torch.overrides import TorchFunctionMode

from outrider.runtimes.torch.cuda.device import Host

CUDA = torch.device("cuda", 0)
READS = {"cpu", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "equal"}
# Views and questions, which launch nothing.
FREE = {
    *(
        "__get__",
        "__len__",
        "__hash__",
        "__repr__",
        "view",
        "view_as",
        "reshape",
        "transpose",
        "permute",
        "t",
        "flatten",
    ),
    *("unflatten", "chunk", "split", "unsafe_chunk", "unbind", "narrow", "select", "unsqueeze", "squeeze", "expand"),
    *("expand_as", "swapaxes", "movedim", "size", "stride", "dim", "numel", "is_contiguous", "is_floating_point"),
    *("element_size", "data_ptr", "detach"),
    *("untyped_storage", "storage_offset", "as_strided"),
}


class Standing(torch.Tensor):
    """A tensor that says that it is on a GPU."""


class Stand(TorchFunctionMode):
    """While it is active, "cuda" is a device.

    Attributes:
        copies: to the device.
        reads: by the host.
        launches: operations on the device; a replayed graph is one.
        allocated: bytes that were asked for on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies = self.reads = self.launches = self.allocated = 0
        self._replaying = False

    def counts(self) -> dict[str, int]:
        return {"copies": self.copies, "reads": self.reads, "launches": self.launches}

    @contextlib.contextmanager
    def replaying(self) -> Iterator[None]:
        """Whatever happens within is one launch."""
        self.launches += 1
        before, self._replaying = self._replaying, True
        try:
            yield
        finally:
            self._replaying = before

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        tensors = [each for each in _leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        there = [each for each in tensors if isinstance(each, Standing)]
        if there and name == "__get__":
            asked = getattr(func, "__self__", None)
            if asked is torch.Tensor.device:
                return CUDA
            if asked is torch.Tensor.is_cuda:
                return True
        if name == "pin_memory":
            return args[0]
        if name in ("to", "cpu"):
            return self._moved(func, args, kwargs)
        if name == "numpy" and there:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name in READS and there:
            self._read()
            return self._plain(func, args, kwargs)
        asked_for = kwargs.get("device")
        wanted = asked_for is not None and torch.device(asked_for).type == "cuda"
        if wanted:
            kwargs["device"] = torch.device("cpu")
            if name in ("tensor", "as_tensor", "asarray"):
                self.copies += 1
            result = self._plain(func, args, kwargs)
            self.allocated += result.numel() * result.element_size()
            return _there(result)
        if not there:
            return func(*args, **kwargs)
        return self._on_device(func, name, args, kwargs, tensors, there)

    def _on_device(self, func: Any, name: str, args: Any, kwargs: Any, tensors: Any, there: Any) -> Any:
        if any(isinstance(each, CausalBias) for each in tensors):  # a mask that is never made
            self.launches += not self._replaying
            return _there(func(*_here(args), **_here(kwargs)))
        here = [each for each in tensors if not isinstance(each, Standing) and each.dim()]
        if name == "copy_":
            self._read() if not isinstance(args[0], Standing) else None
            if here and isinstance(args[0], Standing):
                self.copies += 1
                self._plain(func, args, kwargs)
                return args[0]
        elif here and name not in ("__getitem__", "__setitem__"):
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu")
        elif name in ("__getitem__", "__setitem__"):
            # Lists and arrays of indices are copied to the device first.
            flat = _leaves(args[1]) if not isinstance(args[1], list) else [args[1]]
            listed = isinstance(args[1], list) or any(isinstance(each, list) for each in _each(args[1]))
            if any(isinstance(each, torch.Tensor) and each.dtype is torch.bool for each in flat):
                self._read()  # of how many there are
            self.copies += 1 if (listed or here) else 0
            if not listed and all(not isinstance(each, torch.Tensor) for each in flat) and name == "__getitem__":
                return _there(self._plain(func, args, kwargs))
        if name not in FREE and not self._replaying:
            self.launches += 1
        result = self._plain(func, args, kwargs)
        if name.endswith("_") and not name.endswith("__"):
            return args[0]
        return _there(result)

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        target = "cpu" if func.__name__ == "cpu" else None
        rest = []
        for each in args[1:]:
            if isinstance(each, str | torch.device):
                target = torch.device(each).type
            else:
                rest.append(each)
        if "device" in kwargs:
            asked = kwargs.pop("device")
            target = None if asked is None else torch.device(asked).type
        source = args[0]
        from_there = isinstance(source, Standing)
        if target is None:
            target = "cuda" if from_there else "cpu"
        result = source.as_subclass(torch.Tensor) if from_there else source
        if rest or kwargs:
            converted = {key: value for key, value in kwargs.items() if key != "non_blocking"}
            with torch._C.DisableTorchFunction():
                result = result.to(*rest, **converted) if rest or converted else result
        if from_there and target == "cpu":
            self._read()
        if not from_there and target == "cuda":
            self.copies += 1
            with torch._C.DisableTorchFunction():
                result = result.clone()
        return _there(result) if target == "cuda" else result

    def _read(self) -> None:
        if self._replaying:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.reads += 1

    def _plain(self, func: Any, args: Any, kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return func(*_here(args), **_here(kwargs))


def _each(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _leaves(x: Any) -> list[Any]:
    """What lies in nested tuples, lists and dictionaries. PyTorch's own way would take most of a test's time."""
    if isinstance(x, dict):
        x = x.values()
    elif not isinstance(x, tuple | list):
        return [x]
    return [leaf for each in x for leaf in _leaves(each)]


def _mapped(change: Callable[[torch.Tensor], torch.Tensor], x: Any) -> Any:
    """The same nested values with other tensors."""
    if isinstance(x, torch.Tensor):
        return change(x)
    if isinstance(x, dict):
        return {key: _mapped(change, each) for key, each in x.items()}
    if isinstance(x, list) or type(x) is tuple:
        return type(x)([_mapped(change, each) for each in x])
    if isinstance(x, tuple):  # of PyTorch's own, with names
        return type(x)(tuple(_mapped(change, each) for each in x))
    return x


def _here(x: Any) -> Any:
    return _mapped(lambda each: each.as_subclass(torch.Tensor) if isinstance(each, Standing) else each, x)


def _there(x: Any) -> Any:
    return _mapped(lambda each: each.as_subclass(Standing), x)


class StandingDevice(Host):
    """The device of a session on "cuda"; a graph is replayed as one launch, within which nothing may be read."""

    def __init__(self, stand: Stand) -> None:
        super().__init__(CUDA)
        self.stand = stand
        self.captured = 0

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        self.captured += 1

        def replay() -> None:
            with self.stand.replaying():
                work()

        return replay
