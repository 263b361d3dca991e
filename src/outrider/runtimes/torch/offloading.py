"""Weights beyond a limit of memory lie in host memory or on the disk, and are read in each pass (accelerate)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from outrider.errors import ModelError, SettingError
from outrider.runtimes.host_memory import free_host_bytes

PIECE = 8 << 20  # bytes: the system reads so much at once


@dataclass(frozen=True, slots=True)
class Offloading:
    """How much of the weights stays where they are computed with.

    Attributes:
        bytes: of weights on each device that computes.
        folder: for weights that no file of the model holds in this precision.
    """

    bytes: int
    folder: Path

    def placed(self, device: torch.device) -> dict[str, Any]:
        """The arguments for transformers. On a GPU what is beyond goes to host memory first."""
        if device.type == "cuda":
            devices = range(torch.cuda.device_count()) if device.index is None else [device.index]
            limits: dict[int | str, int] = dict.fromkeys(devices, self.bytes)
            limits["cpu"] = free_host_bytes() or 0
        else:
            limits = {"cpu": self.bytes}
        return {"device_map": "auto", "max_memory": limits, "offload_folder": str(self.folder)}


def offloading(max_memory: int, folder: str | Path) -> Offloading:
    """What is offloaded with so many bytes of memory, to a folder that this makes.

    Raises:
        ModelError: accelerate is not installed.
        SettingError: the folder cannot be made.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise ModelError("max_memory needs accelerate: pip install 'outrider[torch]'")
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"offload_folder {folder} cannot be made ({error.strerror}): give another one") from error
    return Offloading(max_memory, path)


def read_ahead(model: Any, files: Sequence[Path]) -> None:
    """Have the operating system read these files from the beginning of each pass on, while the first layers compute.

    Weights are mapped into memory, and a wide multiplication touches their pages in an order that the system does not
    guess: without this it reads them a few at a time.
    """
    if not hasattr(os, "posix_fadvise"):
        return
    held = [open(file, "rb") for file in files]  # noqa: SIM115 (as long as the model)
    advisor = ThreadPoolExecutor(1, thread_name_prefix="outrider-read-ahead")

    def advise() -> None:
        for file in held:
            for start in range(0, os.fstat(file.fileno()).st_size, PIECE):
                os.posix_fadvise(file.fileno(), start, PIECE, os.POSIX_FADV_WILLNEED)

    model.register_forward_pre_hook(lambda module, arguments: (advisor.submit(advise), None)[1])
