"""The engine for asyncio: servers, notebooks, concurrent tasks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from outrider.engine.engine import Engine
from outrider.engine.events import TokenEvent
from outrider.engine.handle import Handle
from outrider.errors import ModelError, OutriderError, SettingError
from outrider.prompts.request import PreparedRequest, Request

T = TypeVar("T")
Item = list[TokenEvent] | Exception | None  # tokens of a round; at last the error with which the text ended, or None
logger = logging.getLogger("outrider")


@dataclass(slots=True, eq=False)
class _Listener:
    """A coroutine that waits for the tokens of a text."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Item]
    handle: Handle | None = None


class _Mail:
    """The tokens of a round for all listeners. An event loop is woken once for all of its listeners: a wake-up takes
    longer than a token.
    """

    def __init__(self) -> None:
        self._items: dict[asyncio.AbstractEventLoop, list[tuple[_Listener, Item]]] = {}

    def add(self, listener: _Listener, item: Item) -> None:
        self._items.setdefault(listener.loop, []).append((listener, item))

    def send(self) -> list[_Listener]:
        """Put the items into the queues, once. Returns the listeners whose event loop is closed."""
        lost: list[_Listener] = []
        sent, self._items = self._items, {}
        for loop, items in sent.items():
            try:
                loop.call_soon_threadsafe(_put, items)
            except RuntimeError:  # the loop is closed
                lost += [listener for listener, _ in items]
        return lost


def _put(items: list[tuple[_Listener, Item]]) -> None:
    for listener, item in items:
        listener.queue.put_nowait(item)


class AsyncText:
    """One text that an AsyncEngine decodes. Iterating it gives the tokens of each round as a list, once.

    Leave it with `close`, or as an asynchronous context manager: that frees the row of a text that goes on.

    Attributes:
        handle: its state. Another thread changes it: read it when the iteration has ended.
    """

    def __init__(self, handle: Handle, listener: _Listener, leave: Callable[[], None]) -> None:
        self.handle = handle
        self._listener = listener
        self._leave = leave

    async def __aiter__(self) -> AsyncGenerator[list[TokenEvent], None]:
        """Raises ModelError where the target failed on this text, SettingError where the engine was closed."""
        while isinstance(item := await self._listener.queue.get(), list):
            yield item
        if item is not None:
            raise item

    async def __aenter__(self) -> AsyncText:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the text, between two rounds at the latest; nothing happens to one that has ended."""
        self._leave()


class AsyncEngine:
    """Runs an engine in a thread of its own; event loops submit requests and await tokens.

        async with AsyncEngine(engine) as running:
            async for event in running.stream(request):
                ...

    A stream that is left or cancelled frees its row for the next request. While it runs, nothing else may use the
    engine, except through `call`.
    """

    def __init__(self, engine: Engine) -> None:
        if not isinstance(engine, Engine):
            raise SettingError(f"a {type(engine).__name__} is no engine: give an Engine, such as Engine(model)")
        self._engine = engine  # used by the thread alone
        self._listeners: dict[int, _Listener] = {}  # by sequence id; used by the thread alone
        self._mail = _Mail()  # of the last round; used by the thread alone
        self._changed = threading.Condition()  # guards the two below
        self._inbox: list[Callable[[], None]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="outrider-engine", daemon=True)
        self._thread.start()

    def __repr__(self) -> str:
        return f"AsyncEngine({self._engine!r}, {'closed' if self._closed else 'running'})"

    async def __aenter__(self) -> AsyncEngine:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether it takes no requests any more: it was closed, or its thread died."""
        return self._closed

    async def stream(self, request: Request | PreparedRequest) -> AsyncGenerator[TokenEvent, None]:
        """The tokens of one text, as they come.

        Raises:
            InputError, SettingError, QueueFullError: as Engine.submit, in place of the first token.
            ModelError: the target failed on this text.
            SettingError: the engine is closed.
        """
        async with await self.start(request) as text, aclosing(aiter(text)) as rounds:
            async for events in rounds:
                for event in events:
                    yield event

    async def start(
        self, request: Request | PreparedRequest, told: Callable[[Handle], object] | None = None
    ) -> AsyncText:
        """Submit a request, and return once it is accepted: the text then waits for a row, or has one.

        Args:
            told: called with the handle in the engine's thread, before the first round of the text.

        Raises:
            InputError, SettingError, QueueFullError: as Engine.submit.
            SettingError: the engine is closed.
        """
        listener = _Listener(asyncio.get_running_loop(), asyncio.Queue())

        def submit(engine: Engine) -> Handle:
            handle = engine.submit(request)
            listener.handle = handle
            self._listeners[handle.id] = listener
            if told is not None:
                told(handle)
            return handle

        def leave() -> None:
            self._post(lambda: self._cancel(listener), even_if_closed=True)

        try:
            handle = await self.call(submit)
        except BaseException:
            leave()  # whoever waits for it may be cancelled while the engine takes it
            raise
        return AsyncText(handle, listener, leave)

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Call a function with the engine, between two rounds, and return its result.

        Raises:
            SettingError: the engine is closed.
        """
        result: Future[T] = Future()

        def answer() -> None:
            if not result.set_running_or_notify_cancel():
                return  # whoever asked was cancelled
            try:
                result.set_result(function(self._engine))
            except Exception as error:
                result.set_exception(error)

        self._post(answer)
        return await asyncio.wrap_future(result)

    async def close(self) -> None:
        """End all streams, and the thread, after the round in progress."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join)

    def _post(self, action: Callable[[], None], *, even_if_closed: bool = False) -> None:
        with self._changed:
            if self._closed:
                if even_if_closed:
                    return
                raise SettingError("this engine is closed: open another")
            self._inbox.append(action)
            self._changed.notify()

    # The methods below run in the thread.

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            while self._work():
                self._deliver(self._engine.step(self._send))
        except BaseException as error:
            failure = error
            logger.error("the thread of %r died: %r", self, error, exc_info=error)
        with self._changed:
            self._closed = True
            left, self._inbox = self._inbox, []
        for action in left:
            action()  # requests that came too late get the same error as the others
        reason = _why_closed(failure)
        for listener in self._listeners.values():
            self._mail.add(listener, reason)
            assert listener.handle is not None
            listener.handle.cancel()
        self._listeners.clear()
        self._send()

    def _work(self) -> bool:
        """Do what was posted; rest while nothing is asked, and wait. False once the engine is closed."""
        while not self._is_called() and self._engine.rest():
            pass  # what is posted waits for one short step at the most
        with self._changed:
            while not self._is_called():
                self._changed.wait()
            actions, self._inbox = self._inbox, []
            closed = self._closed
        for action in actions:
            action()
        return not closed

    def _is_called(self) -> bool:
        """Whether there is something to do."""
        return bool(self._inbox or self._closed) or not self._engine.idle

    def _cancel(self, listener: _Listener) -> None:
        if listener.handle is not None and self._listeners.pop(listener.handle.id, None) is not None:
            listener.handle.cancel()

    def _deliver(self, events: list[TokenEvent]) -> None:
        """What a round brought is handed out while the device works on the next one, but at once where a text ends."""
        by_sequence, ended = defaultdict(list), False
        for event in events:
            by_sequence[event.sequence].append(event)
        for number, listener in list(self._listeners.items()):
            handle = listener.handle
            assert handle is not None
            if number in by_sequence:
                self._mail.add(listener, by_sequence[number])
            if handle.finish_reason is not None:
                del self._listeners[number]
                self._mail.add(listener, handle.error)
                ended = True
        if ended:
            self._send()

    def _send(self) -> None:
        for listener in self._mail.send():
            self._cancel(listener)


def _why_closed(failure: BaseException | None) -> OutriderError:
    if failure is None:
        return SettingError("this engine was closed before the text was finished: open another")
    error = ModelError(f"the engine failed and is closed: {failure!r}; open another")
    error.__cause__ = failure
    return error
