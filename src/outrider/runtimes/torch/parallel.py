"""A target whose weights are divided among processes: rank 0 decides, all ranks take the same passes.

transformers divides the weights (tensor parallelism, `DistributedConfig(tp_plan="auto")`) and adds up what the ranks
compute. So every rank has to take every pass. Drafting depends on measured times, which differ from rank to rank. So
rank 0 alone has an engine, and broadcasts the calls of its sessions before it makes them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.distributed as dist

from outrider.errors import OutriderError
from outrider.runtimes.base import Model, Named, Pass, Scored, Session

OPEN = "open"


@contextmanager
def spread(model: Model) -> Iterator[Model | None]:
    """On rank 0 the model as one process sees it. The other ranks replay its passes, and get None when it is done with.

    Args:
        model: this rank's part. Without torchrun, or with one process, it is the whole.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        yield model
        return
    calls = _Calls()
    if dist.get_rank() != 0:
        _replay(model, calls)
        yield None
        return
    try:
        yield _Leader(model, calls)
    finally:
        calls.send(None)


class _Calls:
    """Calls on their way from rank 0 to the others: (number of the session, method, arguments)."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo")
        self.gone: list[int] = []  # sessions that rank 0 has dropped since the last call
        self.lock = threading.RLock()

    def drop(self, session: int) -> None:
        self.gone.append(session)

    def send(self, call: tuple[int, str, tuple[Any, ...]] | None) -> None:
        gone, self.gone = self.gone, []
        dist.broadcast_object_list([(call, gone)], src=0, group=self._group)

    def receive(self) -> tuple[tuple[int, str, tuple[Any, ...]] | None, list[int]]:
        box: list[Any] = [None]
        dist.broadcast_object_list(box, src=0, group=self._group)
        call, gone = box[0]
        return call, gone


def _replay(model: Model, calls: _Calls) -> None:
    sessions: dict[int, Session] = {}
    methods = {"extend", "rollout", "keep", "truncate", "adopt", "release"}
    while True:
        call, gone = calls.receive()
        for number in gone:
            del sessions[number]
        if call is None:
            return
        number, method, arguments = call
        try:
            if method == OPEN:
                sessions[number] = model.open(*arguments)
            else:
                assert method in methods
                getattr(sessions[number], method)(*arguments)
        except OutriderError:
            pass  # rank 0 was refused the same


class _Leader(Named):
    """The model, which tells the other ranks of its sessions."""

    def __init__(self, model: Model, calls: _Calls) -> None:
        self._model, self._calls = model, calls
        self._opened = 0
        self.name, self.traits, self.tokenizer = model.name, model.traits, model.tokenizer

    def free_bytes(self) -> int | None:
        return self._model.free_bytes()

    def open(self, rows: int, capacity: int) -> Session:
        with self._calls.lock:
            number, self._opened = self._opened, self._opened + 1
            self._calls.send((number, OPEN, (rows, capacity)))
            session = _LeadingSession(self._model.open(rows, capacity), number, self._calls)
        weakref.finalize(session, self._calls.drop, number)
        return session


class _LeadingSession:
    """A session on rank 0: the others hear of each call first."""

    def __init__(self, session: Session, number: int, calls: _Calls) -> None:
        self._session, self._number, self._calls = session, number, calls

    @property
    def rows(self) -> int:
        return self._session.rows

    @property
    def capacity(self) -> int:
        return self._session.capacity

    def length(self, row: int) -> int:
        return self._session.length(row)

    def extend(self, work: Pass) -> Scored:
        with self._telling("extend", work):
            return self._session.extend(work)

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        with self._telling("rollout", rows, tokens, count, vocab_size):
            return self._session.rollout(rows, tokens, count, vocab_size)

    def keep(self, row: int, path: Sequence[int]) -> None:
        with self._telling("keep", row, path):
            self._session.keep(row, path)

    def truncate(self, row: int, length: int) -> None:
        with self._telling("truncate", row, length):
            self._session.truncate(row, length)

    def adopt(self, row: int, source: int, length: int) -> None:
        with self._telling("adopt", row, source, length):
            self._session.adopt(row, source, length)

    def release(self, row: int) -> None:
        with self._telling("release", row):
            self._session.release(row)

    @contextmanager
    def _telling(self, method: str, *arguments: Any) -> Iterator[None]:
        with self._calls.lock:
            self._calls.send((self._number, method, arguments))
            yield
