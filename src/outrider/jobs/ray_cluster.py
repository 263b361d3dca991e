"""A cluster of Ray, or one of this machine alone, and what each of several equal actors gets of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from outrider.errors import ModelError, SettingError, first_line

LOCAL = "local"
STORE = 100 << 20  # bytes of Ray's object store on this machine: jobs and results are small


class Cluster(NamedTuple):
    """What was joined.

    Attributes:
        ray: the module.
        gpus: that each actor takes.
        threads: that each actor computes with.
    """

    ray: Any
    gpus: int
    threads: int


def join(flag: str, count: int, address: str | None, threads: int | None, *, gpus: bool, extra: str) -> Cluster:
    """Connect to Ray, and divide it among actors. Whoever joins ends with `ray.shutdown()`.

    Args:
        flag: says how many actors there are; for messages.
        count: of actors at once.
        address: of a running cluster, or "auto"; None starts Ray on this machine.
        threads: of each actor; None divides the cores that there are.
        gpus: whether each actor takes a GPU where the cluster has any.
        extra: of the package, which brings what is needed.

    Raises:
        ModelError: Ray is not installed.
        SettingError: there is no cluster at the address, or it has no room for so many actors.
    """
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray
    except ImportError as error:
        raise ModelError(f"Ray is not installed: pip install 'outrider[{extra}]', or leave out {flag}") from error
    _connect(ray, address, count * (threads or 1))
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        each = int(gpus and any(node.get("GPU", 0) >= 1 for node in nodes))
        return Cluster(ray, each, _threads_of_each(flag, nodes, count, threads, each))
    except BaseException:
        ray.shutdown()
        raise


def _connect(ray: Any, address: str | None, threads: int) -> None:
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


def _threads_of_each(flag: str, nodes: Sequence[dict[str, float]], workers: int, threads: int | None, gpus: int) -> int:
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
        f"{flag} is {workers} and the cluster has room for {most} with {what} each: give {flag} {max(most, 1)}"
    )
