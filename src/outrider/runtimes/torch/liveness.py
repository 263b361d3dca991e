"""Ranks that watch one another, so that one that dies ends them all within seconds.

A collective waits for every rank, and a rank that is dead or elsewhere never comes. The wait is in C++, so no exception
reaches it from outside. So a thread beside it ends the process, as NCCL's own watchdog does.

Each rank has a connection to rank 0. The operating system closes it when a process dies, however it dies. Beats tell of
a machine that is off or a process that is stopped.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener, wait
from typing import Any, NoReturn

import torch.distributed as dist

from outrider.errors import first_line

BEAT = 0.5  # seconds
PATIENCE = 8.0  # seconds without a beat
LOST = 2  # the exit status: that of any error which is one line
ALIVE, LEFT = b".", b"left"


@dataclass(slots=True)
class _Peer:
    """Another rank, as this one hears it."""

    name: str
    line: Connection
    heard: float


class Watch:
    """Ends this process with one line on standard error where another rank is lost.

    Args:
        group: of all ranks, for objects; rank 0 tells the others through it where it listens.
    """

    def __init__(self, group: Any) -> None:
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self._peers = _meet(group, self.rank, self.ranks)
        self._deadline: tuple[float, str] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="outrider-watch", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        return f"rank {self.rank} of {self.ranks}"

    def leave(self) -> None:
        """This rank ends in order. Rank 0 leaves last: it waits for the others."""
        if self.rank == 0:
            self.end_unless(PATIENCE, "the other ranks do not end")
        else:
            self._part_with(LEFT)
        self._thread.join()

    def abandon(self, reason: str) -> None:
        """This rank goes, by an error of its own or a key; the others end with this line."""
        self._part_with(reason.encode())

    @contextmanager
    def within(self, seconds: float, reason: str) -> Iterator[None]:
        """Ends the run where the block takes longer, for this reason."""
        self._deadline = time.monotonic() + seconds, reason
        yield
        self._deadline = None

    def end_unless(self, seconds: float, reason: str) -> None:
        """Ends the run after so long, unless it ends before."""
        self._deadline = time.monotonic() + seconds, reason

    def failed(self, error: BaseException) -> NoReturn:
        """What this rank computes with the others has failed: ends the run on all of them.

        Where another one is lost, that is the reason, and the error here only says so in other words.
        """
        time.sleep(2 * BEAT)
        self.end(f"{self.name} failed: {first_line(error)}")

    def end(self, reason: str) -> NoReturn:
        """Ends the run on all ranks with this line."""
        with self._lock:  # for good: whoever comes second waits for the exit
            for peer in self._peers:
                _tell(peer, reason.encode())
            os.write(2, f"error: {reason}: the run ends here, start it again\n".encode())
            os._exit(LOST)

    def _part_with(self, word: bytes) -> None:
        with self._lock:
            peers, self._peers = self._peers, []
            for peer in peers:
                _tell(peer, word)

    def _run(self) -> None:
        told, woken = 0.0, time.monotonic()
        while peers := list(self._peers):
            if woken - told >= BEAT:
                told = woken
                for peer in peers:
                    _tell(peer, ALIVE)
            ready = wait([peer.line for peer in peers], BEAT)
            now = time.monotonic()
            if now - woken > PATIENCE / 2:  # this process was stopped, and heard nobody meanwhile
                for peer in peers:
                    peer.heard = now
            woken = now
            for peer in peers:
                if peer.line in ready:
                    self._hear(peer, now)
                elif now - peer.heard > PATIENCE:
                    self.end(f"{peer.name} gave no sign of life for {PATIENCE:.0f} seconds")
            if self._deadline is not None and now > self._deadline[0]:
                self.end(self._deadline[1])

    def _hear(self, peer: _Peer, now: float) -> None:
        try:
            said = peer.line.recv_bytes()
        except (EOFError, OSError):
            if peer in self._peers:  # and this rank has not left
                self.end(f"{peer.name} is gone")
            return
        peer.heard = now
        if said == LEFT:
            with self._lock:
                self._peers.remove(peer)
        elif said != ALIVE:
            self.end(said.decode())


def _tell(peer: _Peer, what: bytes) -> None:
    """Whoever cannot be told is gone, and that is noticed where it is heard."""
    with suppress(OSError, ValueError):
        peer.line.send_bytes(what)


def _meet(group: Any, rank: int, ranks: int) -> list[_Peer]:
    """The connections of this rank: those of rank 0 to all others, or the one to rank 0."""
    box: list[Any] = [None]
    if rank != 0:
        dist.broadcast_object_list(box, src=0, group=group)
        address, key = box[0]
        line = Client(tuple(address), authkey=key)
        line.send(rank)
        return [_Peer(f"rank 0 of {ranks}", line, time.monotonic())]
    host, key = os.environ.get("MASTER_ADDR", "127.0.0.1"), secrets.token_bytes(16)
    with _listener(host, key) as listener:
        dist.broadcast_object_list([((host, listener.address[1]), key)], src=0, group=group)
        lines = [listener.accept() for _ in range(ranks - 1)]
    return [_Peer(f"rank {line.recv()} of {ranks}", line, time.monotonic()) for line in lines]


def _listener(host: str, key: bytes) -> Any:
    try:
        return Listener((host, 0), authkey=key, backlog=64)
    except OSError:  # the name of this machine may not be an address of it
        return Listener(("", 0), authkey=key, backlog=64)
