"""Which replica is asked: the one that has read the beginning of the prompt, unless it is too busy."""

import asyncio

import pytest

from outrider.fleet.replicas import Replicas
from outrider.fleet.routes import BLOCK, Routes, keys_of

SYSTEM = {"role": "system", "content": "You help. " * BLOCK}


def chat(*contents, tenant="", **more):
    messages = [SYSTEM, *({"role": "user", "content": content} for content in contents)]
    return keys_of(tenant, {"messages": messages, **more})


class Actors:
    """Starts nothing; replicas are dead once they are in `dead`."""

    def __init__(self):
        self.started, self.killed, self.dead = 0, [], set()

    async def start(self):
        self.started += 1
        return self.started, f"http://replica-{self.started}"

    def kill(self, handle):
        self.killed.append(handle)

    async def answers(self, handle, url):
        return handle not in self.dead


async def opened(count, rows=2, drain_seconds=5):
    actors = Actors()
    replicas = Replicas(actors, rows, drain_seconds)
    await replicas.open([await actors.start() for _ in range(count)])
    return replicas, actors


def test_prompts_that_begin_alike_share_their_first_keys():
    first, longer, other = chat("Hello"), chat("Hello", "more " * BLOCK), chat("Bye")
    assert len(first) > 5
    assert longer[: len(first) - 1] == first[:-1]
    assert len(longer) > len(first)
    assert other[:-1] == first[:-1]
    assert chat("Hello", tenant="another")[0] != first[0]
    assert chat("Hello", tools=[{"name": "look"}])[0] != first[0]
    assert keys_of("", {"prompt": "short"}) == []
    assert keys_of("", {"prompt": "\\ud800" * BLOCK})


def test_the_table_forgets_the_oldest_and_those_that_are_gone():
    routes = Routes(most=6)
    routes.learn([b"a", b"b", b"c"], 1)
    routes.learn([b"a", b"x"], 2)
    assert [routes.known([b"a", b"b", b"z"], replica) for replica in (1, 2, 3)] == [2, 1, 0]
    routes.learn([b"p", b"q"], 1)
    assert routes.known([b"a"], 1) == 0
    routes.forget(2)
    assert routes.known([b"a"], 2) == 0
    assert routes.known([b"p", b"q"], 1) == 2


def test_requests_go_where_their_beginning_was_read():
    async def go():
        replicas, _ = await opened(3)
        seen = {}
        for name in ("one", "two", "three", "one", "two", "three", "one"):
            keys = keys_of("", {"prompt": name * BLOCK})
            async with replicas.taken(keys) as replica:
                seen.setdefault(name, set()).add(replica.number)
                await asyncio.sleep(0)
        assert all(len(numbers) == 1 for numbers in seen.values())

    asyncio.run(go())


def test_a_replica_whose_rows_are_taken_is_passed_over():
    async def go():
        replicas, _ = await opened(2, rows=2)
        keys = chat("Hello")
        async with replicas.taken(keys) as first, replicas.taken(keys) as second:
            assert first is second
            async with replicas.taken(keys) as third:
                assert third is not first
        async with replicas.taken([]) as one, replicas.taken([]) as another:
            assert one is not another  # what has no known beginning goes to the idlest

    asyncio.run(go())


def test_renewing_waits_for_what_is_in_progress():
    async def go():
        replicas, actors = await opened(2)
        async with replicas.taken([]) as held:
            renewing = asyncio.create_task(replicas.renew())
            await asyncio.sleep(0.01)
            assert not renewing.done()
            assert held not in replicas.ready
            assert actors.killed == []
            async with replicas.taken([]) as other:
                assert other is not held
        await renewing
        assert sorted(actors.killed) == [1, 2]
        assert [replica.number for replica in replicas.ready] == [3, 4]

    asyncio.run(go())


def test_renewing_does_not_wait_for_ever():
    async def go():
        replicas, actors = await opened(1, drain_seconds=0.01)
        async with replicas.taken([]):
            await replicas.renew()
        assert actors.killed == [1]
        assert len(replicas.ready) == 1

    asyncio.run(go())


@pytest.mark.parametrize("dead", [True, False])
def test_a_suspect_is_replaced_where_it_is_dead(dead):
    async def go():
        replicas, actors = await opened(2)
        if dead:
            actors.dead.add(1)
        replicas.suspect(replicas.ready[0])
        replicas.suspect(replicas.ready[0])
        await asyncio.sleep(0.01)
        assert [replica.number for replica in replicas.ready] == ([2, 3] if dead else [1, 2])
        assert actors.killed == ([1] if dead else [])

    asyncio.run(go())


def test_replicas_that_die_at_once_are_not_started_for_ever():
    async def go():
        replicas, actors = await opened(1)
        for number in range(1, 20):
            actors.dead.add(number)
            for replica in replicas.ready:
                replicas.suspect(replica)
            await asyncio.sleep(0.001)
        assert replicas.ready == []
        assert actors.started == 6

    asyncio.run(go())
