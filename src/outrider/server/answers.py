"""Texts under way, for one request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field

from outrider.engine.asynchronous import AsyncText
from outrider.engine.events import FinishReason, TokenEvent
from outrider.engine.statistics import Statistics
from outrider.prompts.request import PreparedRequest
from outrider.server.rounds import Followed, TextRound
from outrider.text import Tokenizer


@dataclass(frozen=True, slots=True)
class Step:
    """What a round brought one text.

    Attributes:
        index: of the text among those of its request.
        round: what happened in it; None where nobody asked.
    """

    index: int
    events: Sequence[TokenEvent]
    round: TextRound | None

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events)

    @property
    def finish_reason(self) -> FinishReason | None:
        return self.events[-1].finish_reason


@dataclass(slots=True)
class Answer:
    """One text under way.

    Attributes:
        followed: what happened in its rounds; None where nobody asked.
        left: told once, at the end.
        arrived: when the request came, in seconds of `time.perf_counter`.
        first, last: when the first and the newest tokens came.
        pieces: the text so far, as far as it was read.
        tokens: of it, as far as it was read.
    """

    index: int
    prepared: PreparedRequest
    running: AsyncText
    followed: Followed | None
    arrived: float
    left: Callable[[Answer], None]
    first: float = 0.0
    last: float = 0.0
    pieces: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def stats(self) -> Statistics:
        """What speculation did; whole once the text has ended."""
        return self.running.handle.stats

    @property
    def seed(self) -> int:
        return self.running.handle.seed

    def stop_string(self, tokenizer: Tokenizer) -> str | None:
        """The stop string that ended the text; None where something else did."""
        if not self.prepared.stop or self.finish_reason is not FinishReason.STOP:
            return None
        if self.tokens[-1] in self.prepared.stop_token_ids:
            return None
        whole = tokenizer.decode(self.tokens)
        found = [(place, stop) for stop in self.prepared.stop if (place := whole.find(stop)) >= 0]
        return min(found)[1] if found else None

    async def steps(self) -> AsyncGenerator[Step, None]:
        """Raises OutriderError where the text failed."""
        async with aclosing(aiter(self.running)) as rounds:
            async for events in rounds:
                self.last = time.perf_counter()
                self.first = self.first or self.last
                self.tokens += [event.token for event in events]
                self.pieces += [event.text for event in events]
                self.finish_reason = events[-1].finish_reason
                yield Step(self.index, events, self.followed.popleft() if self.followed else None)

    def close(self) -> None:
        """Free the row of a text that goes on."""
        self.running.close()
        self.left(self)


@dataclass(frozen=True, slots=True)
class Answers:
    """The texts of one request. Leaving the context ends those that go on."""

    all: Sequence[Answer]

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the rows of texts that go on."""
        for answer in self.all:
            answer.close()

    def steps(self) -> AsyncGenerator[Step, None]:
        """What each round brings, of all texts, as it comes.

        Raises:
            OutriderError: a text failed.
        """
        return self.all[0].steps() if len(self.all) == 1 else self._steps_of_all()

    async def _steps_of_all(self) -> AsyncGenerator[Step, None]:
        # One step of each text waits here at most: a slow reader holds back all of them.
        queue: asyncio.Queue[Step | Exception | None] = asyncio.Queue(maxsize=len(self.all))
        pumps = [asyncio.create_task(_pump(answer, queue)) for answer in self.all]
        try:
            open_texts = len(pumps)
            while open_texts:
                item = await queue.get()
                if isinstance(item, Exception):
                    raise item
                if item is None:
                    open_texts -= 1
                else:
                    yield item
        finally:
            for pump in pumps:
                pump.cancel()
            for pump in pumps:
                with suppress(asyncio.CancelledError):
                    await pump

    async def read(self) -> None:
        """Read all texts to their ends.

        Raises:
            OutriderError: a text failed.
        """
        async with aclosing(self.steps()) as steps:
            async for _ in steps:
                pass


async def _pump(answer: Answer, queue: asyncio.Queue[Step | Exception | None]) -> None:
    try:
        async with aclosing(answer.steps()) as steps:
            async for step in steps:
                await queue.put(step)
        await queue.put(None)
    except Exception as error:
        await queue.put(error)
