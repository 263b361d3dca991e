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
logger = logging.getLogger("outrider")


@dataclass(slots=True, eq=False)
class _Listener:
    """A coroutine that waits for the tokens of a text.

    The queue holds lists of events, then the error with which the text ended, or None.
    """

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[list[TokenEvent] | Exception | None]
    handle: Handle | None = None

    def tell(self, item: list[TokenEvent] | Exception | None) -> bool:
        """Put an item into the queue; False if the event loop is closed."""
        try:
            self.loop.call_soon_threadsafe(self.queue.put_nowait, item)
        except RuntimeError:  # the loop is closed
            return False
        return True


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
        self._listeners: dict[int, _Listener] = {}  # by sequence id; likewise
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
                self._deliver(self._engine.step())
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
            listener.tell(reason)
            assert listener.handle is not None
            listener.handle.cancel()
        self._listeners.clear()

    def _work(self) -> bool:
        """Do what was posted; wait while there is nothing to do. False once the engine is closed."""
        with self._changed:
            while not (self._inbox or self._closed) and self._engine.idle:
                self._changed.wait()
            actions, self._inbox = self._inbox, []
            closed = self._closed
        for action in actions:
            action()
        return not closed

    def _cancel(self, listener: _Listener) -> None:
        if listener.handle is not None and self._listeners.pop(listener.handle.id, None) is not None:
            listener.handle.cancel()

    def _deliver(self, events: list[TokenEvent]) -> None:
        by_sequence = defaultdict(list)
        for event in events:
            by_sequence[event.sequence].append(event)
        for number, listener in list(self._listeners.items()):
            handle = listener.handle
            assert handle is not None
            heard = number not in by_sequence or listener.tell(by_sequence[number])
            if handle.finish_reason is not None:
                del self._listeners[number]
                listener.tell(handle.error)
            elif not heard:
                self._cancel(listener)


def _why_closed(failure: BaseException | None) -> OutriderError:
    if failure is None:
        return SettingError("this engine was closed before the text was finished: open another")
    error = ModelError(f"the engine failed and is closed: {failure!r}; open another")
    error.__cause__ = failure
    return error
