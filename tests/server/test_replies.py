"""Streams to clients that read slowly, or not at all, by a clock that only the test moves."""

import asyncio

import pytest

from outrider.server.replies import LOOKS, EventStream

STALLED = 2.0  # seconds
EVENTS = [b"one", b"two", b"three", b"four"]


class Clock:
    """Time stands still until `pass_by`."""

    def __init__(self):
        self.now = 0.0
        self._sleeping = []  # (until when, what wakes)

    async def sleep(self, seconds):
        woken = asyncio.Event()
        self._sleeping.append((self.now + seconds, woken))
        await woken.wait()

    async def pass_by(self, seconds):
        """Let time pass, and everybody act on it who was woken."""
        await everybody_acts()
        until = self.now + seconds
        while due := min((end for end, _ in self._sleeping if end <= until), default=None):
            self.now = due
            for _, woken in [each for each in self._sleeping if each[0] <= due]:
                woken.set()
            self._sleeping = [each for each in self._sleeping if each[0] > due]
            await everybody_acts()
        self.now = until


async def everybody_acts():
    for _ in range(20):
        await asyncio.sleep(0)


class Stream:
    """A stream under way, to a client that takes an event whenever it is told to."""

    def __init__(self, clock):
        self.closed, self.taken, self._asked = [], [], asyncio.Semaphore(0)
        stream = EventStream(self._events(), STALLED, {}, lambda: self.closed.append("rows"), sleep=clock.sleep)
        self.running = asyncio.create_task(stream({}, self._receive, self._send))

    async def take(self):
        self._asked.release()
        await everybody_acts()

    async def _events(self):
        try:
            for event in EVENTS:
                yield event
        finally:
            self.closed.append("events")

    async def _receive(self):
        await asyncio.Event().wait()  # it never leaves by itself

    async def _send(self, message):
        if message.get("more_body"):
            await self._asked.acquire()
            self.taken.append(message["body"])


@pytest.mark.parametrize("taken", range(len(EVENTS)))
def test_a_client_that_reads_nothing_is_dropped_once_its_time_is_over(taken):
    async def main():
        clock = Clock()
        stream = Stream(clock)
        for _ in range(taken):
            await stream.take()
        await clock.pass_by(0.99 * STALLED)
        assert not stream.running.done()
        await clock.pass_by(0.01 * STALLED + STALLED / LOOKS)  # a look may have come just before its event was sent
        assert stream.running.done()
        assert stream.taken == EVENTS[:taken]
        assert stream.closed == ["events", "rows"]

    asyncio.run(main())


def test_a_client_that_reads_slowly_gets_everything():
    async def main():
        clock = Clock()
        stream = Stream(clock)
        for _ in EVENTS:
            await clock.pass_by(STALLED * (1 - 1 / LOOKS))
            await stream.take()
        assert stream.taken == EVENTS
        await stream.running
        assert stream.closed == ["events", "rows"]

    asyncio.run(main())


def test_a_text_that_takes_long_is_not_the_clients_fault():
    async def main():
        clock = Clock()
        thought = asyncio.Event()
        closed = []

        async def events():
            await thought.wait()
            yield b"at last"

        async def receive():
            await asyncio.Event().wait()

        async def send(message):
            pass

        stream = EventStream(events(), STALLED, {}, lambda: closed.append("rows"), sleep=clock.sleep)
        running = asyncio.create_task(stream({}, receive, send))
        await everybody_acts()
        await clock.pass_by(100 * STALLED)
        assert not running.done()
        thought.set()
        await running
        assert closed == ["rows"]

    asyncio.run(main())
