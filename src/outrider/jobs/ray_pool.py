"""Workers as actors of Ray, on this machine or on a cluster. Imported when it is asked for; `ray` is an extra."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from outrider.errors import ModelError, OutriderError, SettingError, first_line
from outrider.jobs.jobs import Job
from outrider.jobs.replica import Replica, Report

EXTRA = "Ray is not installed: pip install 'outrider[ray]', or leave out --workers"
LOCAL = "local"
STORE = 100 << 20  # bytes of Ray's object store on this machine: jobs and results are small


class RayPool:
    """A pool of actors. Use it as a context: at its end every worker is gone, and Ray too if it was started here.

    Args:
        make: a worker's replica, given the threads that it computes with; it is pickled.
        workers: at once.
        address: of a running cluster, or "auto"; None starts Ray on this machine.
        threads: of each worker; None divides the cores that there are.
        gpus: whether each worker takes a GPU where the cluster has any.

    Raises:
        ModelError: Ray is not installed.
        SettingError: there is no cluster at the address, or it has no room for so many workers.
    """

    def __init__(
        self,
        make: Callable[[int], Replica],
        workers: int,
        address: str | None = None,
        threads: int | None = None,
        gpus: bool = True,
    ) -> None:
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
        except ImportError as error:
            raise ModelError(EXTRA) from error
        self._ray, self._make = ray, make
        self._actors: dict[int, Any] = {}
        self._turns: dict[Any, int] = {}  # what is waited for, and whose it is
        self._started = 0
        connect(ray, address, workers * (threads or 1))
        try:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            self._gpus = int(gpus and any(node.get("GPU", 0) >= 1 for node in nodes))
            self._threads = threads_of_each(nodes, workers, threads, self._gpus)
        except BaseException:
            ray.shutdown()
            raise

    def __enter__(self) -> RayPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._ray.shutdown()

    def start(self) -> int:
        actor = self._ray.remote(_Worker).options(num_cpus=self._threads, num_gpus=self._gpus)
        self._started += 1
        self._actors[self._started] = actor.remote(self._make, self._threads)
        return self._started

    def decode(self, worker: int, jobs: Sequence[Job]) -> None:
        self._turns[self._actors[worker].decode.remote(list(jobs))] = worker

    def wait(self) -> tuple[int, Report | None]:
        (turn,), _ = self._ray.wait(list(self._turns), num_returns=1)
        worker = self._turns.pop(turn)
        errors = self._ray.exceptions
        try:
            report: Report = self._ray.get(turn)
            return worker, report
        except errors.RayTaskError as error:  # raised by the worker's own code
            raise own_error(error.cause) from error
        except errors.RayError:
            self._ray.kill(self._actors.pop(worker))  # it may only be out of reach
            return worker, None


class _Worker:
    """The actor. Models are opened in its first turn, so that what they refuse reaches the other side as it is."""

    def __init__(self, make: Callable[[int], Replica], threads: int) -> None:
        self._make, self._threads = make, threads
        self._replica: Replica | None = None

    def decode(self, jobs: list[Job]) -> Report:
        if self._replica is None:
            self._replica = self._make(self._threads)
        return self._replica.decode(jobs)


def connect(ray: Any, address: str | None, threads: int) -> None:
    if address is None:
        cores = max(os.cpu_count() or 1, threads)
        ray.init(LOCAL, num_cpus=cores, object_store_memory=STORE, include_dashboard=False, logging_level="ERROR")
        return
    try:
        _reach(address)
        ray.init(address, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingError(
            f"--address is {address} and no Ray cluster answers there ({first_line(error)}): "
            "start one with ray start --head, or leave it out"
        ) from error


def _reach(address: str) -> None:
    """Raises OSError where nobody listens at host:port, for which Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def threads_of_each(nodes: Sequence[dict[str, float]], workers: int, threads: int | None, gpus: int) -> int:
    """The most threads with which so many workers find room on the nodes."""

    def room(each: int) -> int:
        return sum(
            min(int(node.get("CPU", 0)) // each, *([int(node.get("GPU", 0)) // gpus] if gpus else [workers]))
            for node in nodes
        )

    cores = int(sum(node.get("CPU", 0) for node in nodes))
    choices = range(max(1, cores // workers), 0, -1) if threads is None else [threads]
    for each in choices:
        if room(each) >= workers:
            return each
    most = room(choices[-1])
    what = f"{choices[-1]} threads" + (" and a GPU" if gpus else "")
    raise SettingError(
        f"--workers is {workers} and the cluster has room for {most} with {what} each: give --workers {max(most, 1)}"
    )


def own_error(cause: BaseException) -> BaseException:
    return cause if isinstance(cause, OutriderError) else RuntimeError(f"{type(cause).__name__} in a worker: {cause}")
