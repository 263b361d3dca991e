"""A target whose weights are divided among processes: rank 0 decides, all ranks take the same passes.

transformers divides the weights (tensor parallelism, `DistributedConfig(tp_plan="auto")`) and adds up what the ranks
compute. So every rank has to take every pass. Drafting depends on measured times, which differ from rank to rank. So
rank 0 alone has an engine, and broadcasts the calls of its sessions: a pass before it is taken, the others with the
next pass.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from outrider.errors import ModelError, OutriderError
from outrider.runtimes.base import Model, Named, Pass, Scored, Session
from outrider.runtimes.torch.liveness import Watch

T = TypeVar("T")
OPEN, DROP = "open", "drop"
PASSES = ("extend", "rollout")
CHANGES = ("keep", "truncate", "adopt", "release")
INTERRUPTED = "a pass of rank 0 was interrupted"
IDLE = timedelta(days=365)  # for which the other ranks wait for a call
AGREEMENT = 5.0  # seconds until all ranks have refused a pass, where one has


@dataclass(frozen=True, slots=True)
class _Call:
    """A method of a session on rank 0.

    Attributes:
        session: its number.
        lengths: how many tokens all of its rows held before a pass; the other ranks must agree.
    """

    session: int
    method: str
    arguments: tuple[Any, ...] = ()
    lengths: tuple[int, ...] = ()


@contextmanager
def spread(model: Model, watch: Watch | None = None) -> Iterator[Model | None]:
    """On rank 0 the model as one process sees it. The other ranks replay its passes, and get None when it is done with.

    A rank that dies, stops answering or does something else than rank 0 ends the process on every rank, with one line
    on standard error (`liveness.py`).

    Args:
        model: this rank's part. Without torchrun, or with one process, it is the whole.
        watch: of all ranks; None begins one.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        yield model
        return
    group = dist.new_group(backend="gloo", timeout=IDLE)
    watch = Watch(group) if watch is None else watch
    calls = _Calls(group, watch)
    if dist.get_rank() != 0:
        _Follower(model, calls).replay()
        watch.leave()
        yield None
        return
    try:
        yield _Leader(model, calls)
    finally:
        calls.close()


class _Calls:
    """Calls on their way from rank 0 to the others."""

    def __init__(self, group: Any, watch: Watch) -> None:
        self._group = group
        self._waiting: list[_Call] = []
        self._passing = False
        self.watch = watch
        self.lock = threading.RLock()

    def add(self, call: _Call) -> None:
        """The others hear of it with the next pass. Python's own clearing up may call this at any moment."""
        self._waiting.append(call)

    def receive(self) -> list[_Call] | None:
        """The next calls; None where there are no more."""
        box: list[Any] = [None]
        dist.broadcast_object_list(box, src=0, group=self._group)
        calls: list[_Call] | None = box[0]
        return calls

    def agree(self, reason: str) -> None:
        """All ranks have refused a pass."""
        with self.watch.within(AGREEMENT, f"{self.watch.name} refused what others did not ({reason})"):
            dist.barrier(group=self._group)

    @contextmanager
    def passing(self, call: _Call) -> Iterator[None]:
        """A pass of rank 0, of which the others hear first.

        Raises:
            ModelError: the last one was interrupted, and the others still wait for its end.
        """
        with self.lock:
            if self._passing:
                raise ModelError(INTERRUPTED)
            self._passing = True
            try:
                self._send([*self._taken(), call])
                yield
            except OutriderError as error:
                self.agree(str(error))
                self._passing = False
                raise
            except Exception as error:
                self.watch.failed(error)
            self._passing = False

    def close(self) -> None:
        """There are no more."""
        with self.lock:
            if self._passing:
                self.watch.abandon(INTERRUPTED)
            else:
                self._send(None)
                self.watch.leave()

    def _taken(self) -> list[_Call]:
        taken = self._waiting[:]
        del self._waiting[: len(taken)]
        return taken

    def _send(self, calls: list[_Call] | None) -> None:
        dist.broadcast_object_list([calls], src=0, group=self._group)


class _Follower:
    """A rank that does what rank 0 does."""

    def __init__(self, model: Model, calls: _Calls) -> None:
        self._model, self._calls = model, calls
        self._sessions: dict[int, Session] = {}

    def replay(self) -> None:
        """Until rank 0 has no more calls."""
        try:
            while (calls := self._calls.receive()) is not None:
                for call in calls:
                    self._take(call)
        except Exception as error:
            self._calls.watch.failed(error)

    def _take(self, call: _Call) -> None:
        if call.method == OPEN:
            self._sessions[call.session] = self._model.open(*call.arguments)
        elif call.method == DROP:
            del self._sessions[call.session]
        elif call.method in CHANGES:
            getattr(self._sessions[call.session], call.method)(*call.arguments)
        else:
            assert call.method in PASSES
            self._pass(self._sessions[call.session], call)

    def _pass(self, session: Session, call: _Call) -> None:
        lengths = _lengths(session)
        if lengths != call.lengths:
            self._calls.watch.end(
                f"the rows of {self._calls.watch.name} hold {list(lengths)} tokens and those of rank 0 "
                f"{list(call.lengths)}"
            )
        try:
            getattr(session, call.method)(*call.arguments)
        except OutriderError as error:
            self._calls.agree(str(error))


def _lengths(session: Session) -> tuple[int, ...]:
    return tuple(session.length(row) for row in range(session.rows))


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
            session = _LeadingSession(self._model.open(rows, capacity), self._opened, self._calls)
            self._calls.add(_Call(self._opened, OPEN, (rows, capacity)))
            weakref.finalize(session, self._calls.add, _Call(self._opened, DROP))
            self._opened += 1
        return session


class _LeadingSession:
    """A session on rank 0: the others hear of each call."""

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
        return self._passed("extend", self._session.extend, work)

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        return self._passed("rollout", self._session.rollout, rows, tokens, count, vocab_size)

    def keep(self, row: int, path: Sequence[int]) -> None:
        self._changed("keep", self._session.keep, row, tuple(path))

    def truncate(self, row: int, length: int) -> None:
        self._changed("truncate", self._session.truncate, row, length)

    def adopt(self, row: int, source: int, length: int) -> None:
        self._changed("adopt", self._session.adopt, row, source, length)

    def release(self, row: int) -> None:
        self._changed("release", self._session.release, row)

    def _passed(self, name: str, method: Callable[..., T], *arguments: Any) -> T:
        call = _Call(self._number, name, arguments, _lengths(self._session))
        with self._calls.passing(call):
            return method(*arguments)

    def _changed(self, name: str, method: Callable[..., None], *arguments: Any) -> None:
        with self._calls.lock:
            method(*arguments)
            self._calls.add(_Call(self._number, name, arguments))
