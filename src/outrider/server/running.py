"""A server that runs until it is asked to end: it then finishes the texts that run, and takes no others."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from uvicorn import Config, Server

from outrider.server.connections import careful, most_connections

# Longer than clients keep idle connections (httpx: 5), so that none is closed while a request is on its way.
KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048  # connections that wait to be taken


class _Draining(Server):
    """Ends without an error once SIGTERM or SIGINT comes: uvicorn raises the signal once more."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn stops at once. But the engine would go on in its thread while Python ends, which ends in an abort.
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()


def _says_more_than_cut_short(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's is news: a text that is cut short where the server ends is none."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def run(app: Any, listening: socket.socket, *, drain_seconds: int = 60, access_log: bool = False) -> None:
    """Serve an application until SIGTERM or SIGINT; a second signal ends the texts that run as well.

    Args:
        listening: the socket, bound and listening.
        drain_seconds: how long texts that run may take to end.
        access_log: whether to log a line for each request.
    """
    config = Config(
        app,
        http=careful(most_connections()),  # type: ignore[arg-type]
        log_level="info" if access_log else "error",  # what clients do wrong is told to them
        access_log=access_log,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=drain_seconds,
        backlog=BACKLOG,
        server_header=False,
    )
    logging.getLogger("uvicorn.error").addFilter(_says_more_than_cut_short)
    _Draining(config).run([listening])
