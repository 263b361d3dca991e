"""What an engine does while the user types: its drafters learn, where they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from outrider.engine.engine import Engine


@contextmanager
def resting(engine: Engine) -> Iterator[None]:
    """While this lasts, the engine rests in a thread; leaving it waits for one short step at the most."""
    called = Event()

    def rest() -> None:
        while not called.is_set() and engine.rest():
            pass

    thread = Thread(target=rest, name="outrider-rest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        called.set()
        thread.join()
