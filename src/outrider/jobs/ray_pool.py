"""Workers as actors of Ray, on this machine or on a cluster. Imported when it is asked for; `ray` is an extra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from outrider.errors import OutriderError
from outrider.jobs.jobs import Job
from outrider.jobs.ray_cluster import join
from outrider.jobs.replica import Replica, Report


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
        cluster = join("--workers", workers, address, threads, gpus=gpus, extra="ray")
        self._ray, self._gpus, self._threads = cluster.ray, cluster.gpus, cluster.threads
        self._make = make
        self._actors: dict[int, Any] = {}
        self._turns: dict[Any, int] = {}  # what is waited for, and whose it is
        self._started = 0

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


def own_error(cause: BaseException) -> BaseException:
    return cause if isinstance(cause, OutriderError) else RuntimeError(f"{type(cause).__name__} in a worker: {cause}")
