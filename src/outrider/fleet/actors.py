"""Replicas as actors of Ray, each with models and threads of its own. Imported when it is asked for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx

from outrider.errors import ModelError
from outrider.jobs.ray_cluster import join
from outrider.jobs.ray_pool import own_error
from outrider.server import Service, create_app

PATIENCE = 5.0  # seconds until a replica that says nothing is taken for dead
LOCAL = "127.0.0.1"


class RayActors:
    """Starts replicas on this machine or on a cluster.

    Args:
        make: a replica's service, given the threads that it computes with; it is pickled.
        count: how many there are at once, among which cores are divided.
        address: of a running cluster, or "auto"; None starts Ray on this machine.
        threads: of each replica; None divides the cores.
        gpus: whether each takes a GPU where there are some.

    Raises:
        ModelError: Ray is not installed.
        SettingError: there is no cluster at the address, or it has no room for so many.
    """

    def __init__(
        self, make: Callable[[int], Service], count: int, address: str | None, threads: int | None, gpus: bool
    ) -> None:
        cluster = join("--replicas", count, address, threads, gpus=gpus, extra="ray,serve")
        self._ray, self._gpus, self._threads = cluster.ray, cluster.gpus, cluster.threads
        self._make, self._host = make, LOCAL if address is None else None

    def start_all(self, count: int) -> list[tuple[Any, str]]:
        """Handles and URLs of the first replicas.

        Raises:
            OutriderError: they cannot open their models.
        """

        async def started() -> list[tuple[Any, str]]:
            return await asyncio.gather(*(self.start() for _ in range(count)))

        return asyncio.run(started())

    def close(self) -> None:
        """All are gone, and Ray too if it was started here."""
        self._ray.shutdown()

    async def start(self) -> tuple[Any, str]:
        handle = self._ray.remote(_Server).options(num_cpus=self._threads, num_gpus=self._gpus).remote()
        errors = self._ray.exceptions
        try:
            url: str = await handle.serve.remote(self._make, self._threads, self._host)
        except errors.RayTaskError as error:  # raised by the replica's own code
            self.kill(handle)
            raise own_error(error.cause) from error
        except errors.RayError as error:
            raise ModelError("a replica was lost while it opened its models: memory may be short") from error
        return handle, url

    def kill(self, handle: Any) -> None:
        self._ray.kill(handle)

    async def answers(self, handle: Any, url: str) -> bool:
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            try:
                return (await client.get(f"{url}/health")).status_code == 200
            except httpx.HTTPError:
                return False


class _Server:
    """The actor: the server of one process, in a thread of its own."""

    def serve(self, make: Callable[[int], Service], threads: int, host: str | None) -> str:
        """Open the models, and serve them; returns the URL."""
        import ray
        from uvicorn import Config, Server

        where = ray.util.get_node_ip_address() if host is None else host
        listening = socket.create_server((where, 0), backlog=2048)
        server = Server(Config(create_app(make(threads)), log_level="error", timeout_keep_alive=600))
        serving = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
        serving.start()
        return f"http://{where}:{listening.getsockname()[1]}"
