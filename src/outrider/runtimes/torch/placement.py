"""Where a PyTorch model runs, and in which precision."""

from __future__ import annotations

import torch

from outrider.errors import SettingError, first_line, shown
from outrider.runtimes.host_memory import free_host_bytes
from outrider.runtimes.torch.linears import computes_bfloat16, computes_float16
from outrider.runtimes.torch.quantised import require_torchao


def find_device(device: str) -> torch.device:
    """The device of a name; auto is cuda where there is one.

    Raises:
        SettingError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise SettingError(f"device {shown(device)} cannot be used: {first_line(error)}; try --device cpu") from error
    return place


def find_kind(dtype: str, place: torch.device) -> str:
    """The precision of a name; auto is what is fast on the device.

    Raises:
        SettingError: the device does not compute in it.
    """
    if dtype in ("int8", "int4") and place.type == "cuda":
        require_torchao(dtype)
    elif dtype == "int4" or (dtype == "int8" and place.type != "cpu"):
        where = "a GPU of NVIDIA or AMD" if dtype == "int4" else "the CPU, or a GPU of NVIDIA or AMD"
        raise SettingError(f"dtype {dtype} is for {where} and the device is {place}: use bfloat16 there")
    if dtype == "float16" and place.type == "cpu" and not computes_float16():
        raise SettingError("dtype float16 needs an x86 processor or a GPU: use float32")
    if dtype != "auto":
        return dtype
    if place.type != "cpu":
        return "bfloat16"
    return "bfloat16" if computes_bfloat16() else "float16" if computes_float16() else "float32"


def weight_dtype(kind: str, place: torch.device) -> torch.dtype:
    """The dtype in which the weights are read."""
    if kind == "bfloat16" or (kind in ("int8", "int4") and place.type != "cpu"):
        return torch.bfloat16
    # On a CPU float16 and int8 are float32 until the weights are laid out.
    return torch.float16 if kind == "float16" and place.type != "cpu" else torch.float32


def sent(numbers: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Numbers of the host on a device. A GPU takes them when it comes to it: the host waits for nothing."""
    if device.type != "cuda":
        return numbers.to(device)
    return numbers.pin_memory().to(device, non_blocking=True)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done what was launched on its present stream; other streams go on."""
    torch.cuda.current_stream(device).synchronize()


def free_bytes(device: torch.device) -> int | None:
    """Free memory of a device in bytes; None if unknown."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_host_bytes() if device.type == "cpu" else None
