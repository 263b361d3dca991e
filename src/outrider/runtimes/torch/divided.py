"""A target that torchrun's processes open together: each reads its part of the weights."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist
from transformers.distributed import DistributedConfig

from outrider.errors import OutriderError, SettingError
from outrider.runtimes.base import Model
from outrider.runtimes.files.folder import check_folder
from outrider.runtimes.files.places import find_place
from outrider.runtimes.loading import shorten
from outrider.runtimes.torch.liveness import Watch
from outrider.runtimes.torch.loading import open_part
from outrider.runtimes.torch.parallel import IDLE, spread

STOPPED = 128 + signal.SIGTERM
MEANWHILE = 2.0  # seconds in which the loss of a rank becomes known after torchrun stops the others for it
FAREWELL = 25.0  # seconds for which rank 0 may end its texts; torchrun itself gives 30


@contextmanager
def divided(
    name: str,
    ranks: int,
    *,
    dtype: str,
    device: str,
    threads: int | None,
    context_length: int | None,
    trust_remote_code: bool,
    progress: Callable[[str], None],
) -> Iterator[Model | None]:
    """The target on rank 0. The other ranks take part in its passes until it is done with, and get None then.

    Args:
        ranks: the number of processes that torchrun has started.
        dtype, device, threads, context_length, trust_remote_code, progress: as for `outrider.load`.

    Raises:
        SettingError: there are other ranks than these; or as `outrider.load`.
        ModelError: as `outrider.load`; or the model cannot be divided among so many.
    """
    require_ranks(ranks)
    place = find_place(name, progress, code=trust_remote_code)
    if place.path.is_dir():
        check_folder(place.path)
    if threads is not None:
        torch.set_num_threads(threads)
    _join(device)
    watch = Watch(dist.new_group(backend="gloo", timeout=IDLE))
    _heed_signals(watch)
    try:
        split = DistributedConfig(tp_plan="auto", tp_size=ranks)
        model = open_part(place, split, dtype, device, trust_remote_code, progress)
        shorten(model, context_length)
    except OutriderError as error:
        watch.abandon(f"{watch.name} cannot open its part ({error})")
        raise
    except Exception as error:
        watch.failed(error)
    with spread(model, watch) as target:
        yield target
    dist.destroy_process_group()


def require_ranks(ranks: int) -> None:
    """Raises SettingError where torchrun has started another number of processes."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started != ranks:
        how = f"torchrun --nproc-per-node {ranks} -m outrider ..."
        raise SettingError(f"--tensor-parallel is {ranks} and there are {started} processes: start them with {how}")


def _join(device: str) -> None:
    kind = torch.device("cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu"))
    if kind.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if kind.type == "cuda" else "gloo")


def _heed_signals(watch: Watch) -> None:
    """What torchrun sends to all ranks, when it is stopped itself and when one of them has died."""

    def stop(number: int, frame: FrameType | None) -> None:
        time.sleep(MEANWHILE)  # if a rank has died, this process ends here, with a line that says so
        raise SystemExit(STOPPED)

    def follow(number: int, frame: FrameType | None) -> None:
        watch.end_unless(FAREWELL, f"{watch.name} was stopped")

    signal.signal(signal.SIGTERM, stop if watch.rank == 0 else follow)
    if watch.rank != 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
