"""Replicas that start, serve, are lost, and are renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from outrider.errors import OutriderError
from outrider.fleet.routes import Routes
from outrider.server.errors import ApiError

logger = logging.getLogger("outrider")
WAIT = 120.0  # seconds for which a request waits for a replica, while all are renewed
LOSSES = 6  # replicas in a row that are lost before they serve anything: then no other takes their place


class Actors(Protocol):
    """What starts replicas."""

    async def start(self) -> tuple[Any, str]:
        """A handle and the URL of a replica that serves.

        Raises:
            OutriderError: it cannot open its models.
        """

    def kill(self, handle: Any) -> None:
        """End it at once."""

    async def answers(self, handle: Any, url: str) -> bool:
        """Whether it is alive."""


@dataclass(eq=False, slots=True)
class Replica:
    """One process with a server.

    Attributes:
        number: which no other one has, an earlier one in its place included.
        active: requests that it answers at present.
        ready: whether it is given more.
        idle: set while it answers none.
    """

    number: int
    handle: Any
    url: str
    active: int = 0
    served: int = 0
    ready: bool = True
    idle: asyncio.Event = field(default_factory=asyncio.Event)


class Replicas:
    """The replicas, and which of them answers a request.

    Args:
        rows: texts that one decodes at once: by so many requests the replica with the prefix may be busier than others.
        drain_seconds: how long requests in progress may take to end where a replica is renewed.
    """

    def __init__(self, actors: Actors, rows: int, drain_seconds: float) -> None:
        self._actors, self._rows, self._drain_seconds = actors, rows, drain_seconds
        self._routes = Routes()
        self._replicas: list[Replica] = []
        self._started = 0
        self._in_vain = 0  # losses since a replica has served something
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewing = asyncio.Lock()

    @property
    def ready(self) -> list[Replica]:
        """Those that take requests."""
        return [replica for replica in self._replicas if replica.ready]

    @property
    def all(self) -> list[Replica]:
        """Those that run, also without taking requests."""
        return list(self._replicas)

    async def open(self, first: Sequence[tuple[Any, str]]) -> None:
        """Take the first ones."""
        for handle, url in first:
            await self._add(handle, url)

    def close(self) -> None:
        """End them all at once."""
        for task in self._tasks:
            task.cancel()
        for replica in self._replicas:
            self._actors.kill(replica.handle)

    @asynccontextmanager
    async def taken(self, keys: list[bytes], tried: Iterable[Replica] = ()) -> AsyncIterator[Replica]:
        """The best replica for a request with these keys, which counts as busy with it meanwhile.

        Raises:
            ApiError: there is none that was not tried, and none comes.
        """
        replica = await self._next(keys, set(tried))
        replica.active += 1
        replica.idle.clear()
        self._routes.learn(keys, replica.number)
        try:
            yield replica
        finally:
            replica.active -= 1
            if not replica.active:
                replica.idle.set()

    def served(self, replica: Replica) -> None:
        """It has answered a request."""
        replica.served += 1
        self._in_vain = 0

    def suspect(self, replica: Replica) -> None:
        """A connection to it broke: if it is dead, another one takes its place."""
        self.in_background(self._replace_if_dead(replica))

    async def renew(self) -> None:
        """Replace all, one after the other, each once it has answered what it was given (rolling restart)."""
        async with self._renewing:
            for replica in list(self._replicas):
                if replica not in self._replicas:
                    continue  # it was lost meanwhile
                replica.ready = False
                try:
                    await asyncio.wait_for(replica.idle.wait(), self._drain_seconds)
                except TimeoutError:
                    logger.warning("replica %d still answers %d requests: they end", replica.number, replica.active)
                self._remove(replica)
                await self._start()

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it beside the requests."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def renew_in_background(self) -> None:
        """As `renew`, from a signal."""
        self.in_background(self.renew())

    async def _next(self, keys: list[bytes], tried: set[Replica]) -> Replica:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: set(self.ready) - tried), WAIT)
            except TimeoutError as error:
                raise ApiError(503, "no replica takes requests: try again later", code="no_replica") from error
            return self._best(keys, [replica for replica in self.ready if replica not in tried])

    def _best(self, keys: list[bytes], among: list[Replica]) -> Replica:
        """The one that holds most of the prompt, unless it is busier than another by all its rows."""
        idlest = min(among, key=lambda replica: replica.active)
        known = max(among, key=lambda replica: (self._routes.known(keys, replica.number), -replica.active))
        return idlest if known.active - idlest.active >= self._rows else known

    async def _replace_if_dead(self, replica: Replica) -> None:
        if replica not in self._replicas or await self._actors.answers(replica.handle, replica.url):
            return
        if replica not in self._replicas:
            return  # another request has noticed
        logger.warning("replica %d is lost: another one takes its place", replica.number)
        self._remove(replica)
        self._in_vain += 1
        if self._in_vain >= LOSSES:
            logger.error("%d replicas in a row were lost before they served anything: none is started", self._in_vain)
            return
        await self._start()

    async def _start(self) -> None:
        try:
            await self._add(*await self._actors.start())
        except OutriderError as error:
            logger.error("a replica cannot be started: %s", error)

    async def _add(self, handle: Any, url: str) -> None:
        self._started += 1
        replica = Replica(self._started, handle, url)
        replica.idle.set()
        async with self._changed:
            self._replicas.append(replica)
            self._changed.notify_all()

    def _remove(self, replica: Replica) -> None:
        replica.ready = False
        self._replicas.remove(replica)
        self._routes.forget(replica.number)
        self._actors.kill(replica.handle)
