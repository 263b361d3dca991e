"""The engine behind async/await: streams, clients that leave, failures, closing."""

import asyncio
import threading
from contextlib import aclosing

import numpy as np
import pytest

from outrider import (
    AsyncEngine,
    Engine,
    FinishReason,
    FunctionModel,
    InputError,
    ModelDrafter,
    ModelError,
    QueueFullError,
    Request,
    SamplingParams,
    SettingError,
    SpeculativeDecoder,
)
from tiny.tables import DRAFT, TARGET

PROMPTS = [(0, 1, 2), (4,), (3, 3, 1, 0, 2, 2, 1), (1, 4)]


def engine(target=TARGET, **settings) -> Engine:
    settings = {"max_rows": 3, "capacity": 4096, "rule": "coupled"} | settings
    return Engine(target, ModelDrafter(DRAFT), **settings)


def request(number: int, max_tokens: int = 20) -> Request:
    return Request(PROMPTS[number % len(PROMPTS)], max_tokens, SamplingParams(seed=number))


def alone(number: int, max_tokens: int = 20) -> list[int]:
    decoder = SpeculativeDecoder(None, TARGET, rule="coupled")
    prompt = PROMPTS[number % len(PROMPTS)]
    return decoder.generate(prompt, max_tokens=max_tokens, sampling=SamplingParams(seed=number)).tokens


async def tokens_of(running: AsyncEngine, number: int, max_tokens: int = 20) -> list[int]:
    return [event.token async for event in running.stream(request(number, max_tokens))]


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, timeout=300))


def test_many_clients_at_once_each_get_their_own_text() -> None:
    async def main():
        async with AsyncEngine(engine()) as running:
            return await asyncio.gather(*(tokens_of(running, number) for number in range(12)))

    assert run(main()) == [alone(number) for number in range(12)]


def test_the_last_event_says_why_the_text_ended() -> None:
    async def main():
        async with AsyncEngine(engine()) as running:
            return [event async for event in running.stream(request(0))]

    events = run(main())
    assert [event.finish_reason for event in events[:-1]] == [None] * 19
    assert events[-1].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("read", [0, 1, 7])
def test_a_client_that_leaves_frees_its_row(read: int) -> None:
    async def main():
        async with AsyncEngine(engine(max_rows=1, max_waiting=0)) as running:
            async with aclosing(running.stream(request(0, 4000))) as stream:
                for _ in range(read):
                    await anext(stream)
            rest = await tokens_of(running, 1)
            return rest, await running.call(lambda engine: (len(engine.active), len(engine.waiting)))

    rest, held = run(main())
    assert rest == alone(1)
    assert held == (0, 0)


def test_a_task_that_is_cancelled_frees_its_row() -> None:
    async def main():
        async with AsyncEngine(engine(max_rows=1)) as running:
            endless = asyncio.create_task(tokens_of(running, 0, 4000))
            waiting = asyncio.create_task(tokens_of(running, 1))
            while not await running.call(lambda engine: engine.active):
                await asyncio.sleep(0)
            endless.cancel()
            return await waiting

    assert run(main()) == alone(1)


def test_a_bad_request_hurts_nobody_else() -> None:
    async def main():
        async with AsyncEngine(engine()) as running:
            good = asyncio.create_task(tokens_of(running, 0))
            with pytest.raises(InputError, match="token 9 is outside the vocabulary"):
                async for _ in running.stream(Request((9,), 5, SamplingParams(seed=0))):
                    pass
            return await good

    assert run(main()) == alone(0)


def test_a_full_queue_refuses() -> None:
    async def main():
        async with AsyncEngine(engine(max_rows=1, max_waiting=0)) as running:
            first = running.stream(request(0, 4000))
            await anext(first)
            with pytest.raises(QueueFullError, match="try again later"):
                await tokens_of(running, 1)
            await first.aclose()

    run(main())


def test_a_text_that_fails_raises_where_it_is_awaited() -> None:
    def function(tokens):
        logits = np.stack([TARGET.logits_after(tokens[0, : end + 1].tolist()) for end in range(tokens.shape[1])])
        if tokens[0, 0] == 4:
            logits[5:] = np.nan
        return logits

    async def main():
        async with AsyncEngine(engine(FunctionModel(function, vocab_size=5))) as running:
            tasks = [asyncio.create_task(tokens_of(running, number)) for number in range(3)]
            return await asyncio.gather(*tasks, return_exceptions=True)

    first, second, third = run(main())
    assert (first, third) == (alone(0), alone(2))
    assert isinstance(second, ModelError)


def test_closing_ends_open_streams_and_refuses_new_ones() -> None:
    async def main():
        running = AsyncEngine(engine())
        stream = running.stream(request(0, 4000))
        await anext(stream)
        await running.close()
        with pytest.raises(SettingError, match="closed before the text was finished"):
            async for _ in stream:
                pass
        with pytest.raises(SettingError, match="is closed: open another"):
            await tokens_of(running, 1)

    run(main())


def test_an_engine_that_breaks_tells_everybody() -> None:
    broken = engine()

    def step():
        raise RuntimeError("out of cheese")

    broken.step = step

    async def main():
        running = AsyncEngine(broken)
        results = await asyncio.gather(*(tokens_of(running, number) for number in range(2)), return_exceptions=True)
        await running.close()
        return results

    for error in run(main()):
        assert isinstance(error, ModelError | SettingError)
        assert "closed" in str(error)


def test_what_call_raises_reaches_the_caller() -> None:
    async def main():
        async with AsyncEngine(engine()) as running:
            with pytest.raises(ZeroDivisionError):
                await running.call(lambda engine: 1 // 0)
            return await tokens_of(running, 0)

    assert run(main()) == alone(0)


def test_a_call_that_is_cancelled_before_its_turn_hurts_nobody() -> None:
    async def main():
        async with AsyncEngine(engine()) as running:
            held = threading.Event()
            waiting = asyncio.create_task(running.call(lambda engine: held.wait(120)))
            late = asyncio.create_task(running.call(lambda engine: 1))
            await asyncio.sleep(0.01)
            late.cancel()
            await asyncio.gather(late, return_exceptions=True)
            held.set()
            await waiting
            return await tokens_of(running, 0)

    assert run(main()) == alone(0)


def test_a_text_that_was_started_gives_its_tokens_round_by_round() -> None:
    async def main():
        told = []
        async with AsyncEngine(engine()) as running, await running.start(request(0), told.append) as text:
            rounds = [events async for events in text]
            assert told == [text.handle]
            return rounds, text.handle

    rounds, handle = run(main())
    assert [event.token for events in rounds for event in events] == alone(0) == handle.tokens
    assert len(rounds) == handle.stats.rounds


def test_a_request_that_is_refused_does_not_start() -> None:
    async def main():
        async with AsyncEngine(engine(max_rows=1, max_waiting=0)) as running:
            async with await running.start(request(0, 4000)):
                with pytest.raises(QueueFullError):
                    await running.start(request(1))
            return await running.call(lambda engine: len(engine.active))

    assert run(main()) == 0
