"""Learning while nothing is asked: what it brings, what it keeps, and when it leaves things as they are."""

import asyncio
import logging
import random

import pytest

from outrider import AsyncEngine, Engine, ModelError, Request, SamplingParams, TableModel, head_drafter

torch = pytest.importorskip("torch")

from outrider.training.heads.corpus import Reader  # noqa: E402
from outrider.training.heads.descent import DescentSettings  # noqa: E402
from outrider.training.idle import IdleLearner, IdleSettings  # noqa: E402
from tiny import heads as tiny_heads  # noqa: E402

VOCABULARY = 8
TARGET = tiny_heads.ShownTable(TableModel.random(VOCABULARY, 1, spread=2.0, seed=3).table)
QUICK = {"batch": 4, "steps": 6, "fewest": (8, 16), "patience": 1}


@pytest.fixture
def folder(tmp_path):
    return tiny_heads.write(tmp_path / "head", vocab_size=VOCABULARY, options={"fc_norm": True, "norm_output": True})


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A head that knows the target a little."""
    folder = tmp_path_factory.mktemp("good") / "head"
    tiny_heads.trained(TARGET, range(VOCABULARY), steps=20, folder=folder)
    return folder


class Server:
    """An engine with a learner, and what it told."""

    def __init__(self, folder, target=TARGET, *, rate=1e-2, decay=0.01, **settings):
        self.told = []
        descent = DescentSettings(depth=3, rate=rate, decay=decay)
        self.learner = IdleLearner(
            folder,
            target,
            dtype="float32",
            settings=IdleSettings(descent=descent, **QUICK | settings),
            told=self.told.append,
        )
        drafter = head_drafter(folder, target, dtype="float32", learner=self.learner, trees=False)
        self.engine = Engine(target, drafter, lookahead=3, max_rows=8, capacity=64)
        self._chooser = random.Random(0)

    def request(self, length=24):
        prompt = [self._chooser.randrange(VOCABULARY) for _ in range(6)]
        return Request(prompt, length, SamplingParams(seed=self._chooser.getrandbits(32)), detokenize=False)

    def serve(self, texts):
        """The share of draft tokens that were accepted."""
        handles = [self.engine.submit(self.request()) for _ in range(texts)]
        while not self.engine.idle:
            self.engine.step()
        return sum(each.stats.accepted for each in handles) / sum(each.stats.drafted for each in handles)

    def rest(self, lines=1 << 30):
        """Until nothing is left to do, or so much was told; how many steps it took."""
        steps = 0
        while len(self.told) < lines and self.engine.rest():
            steps += 1
        return steps


def test_what_was_decoded_is_learned_and_accepted_more_often(folder):
    server = Server(folder)
    before = server.serve(20)
    server.rest(lines=2)
    assert server.serve(20) > before + 0.15
    assert "from 20 texts" in server.told[0]


def test_it_ends_where_nothing_is_gained_and_goes_on_with_further_texts(folder):
    server = Server(folder, rate=1e-9)
    server.serve(14)
    assert server.rest() > 0
    assert server.rest() == 0
    server.serve(1)
    assert server.rest() > 0


def test_a_head_that_got_worse_does_not_draft(good):
    server = Server(good, decay=90.0)  # next to nothing is left of the weights after a step
    network = server.engine.drafter.network
    server.serve(14)
    assert server.rest() > 0
    assert server.told == []
    assert server.engine.drafter.network is network


def test_what_was_learned_is_dropped_where_other_texts_say_so(good):
    """It learned from texts that say one thing alone, until texts of all kinds come."""
    server = Server(good, room=60_000, steps=1)
    for number in range(40):
        server.learner.remember([number % 8, number // 8, *[0, 1] * 12], 2)
    server.rest()
    assert server.told
    server.serve(40)
    server.rest()
    assert "as it came" in server.told[-1]


def test_texts_and_states_are_kept_within_bounds(folder):
    """What is measured with takes a step for each text."""
    steps = []
    for room in (1 << 20, 40_000):
        server = Server(folder, room=room, rate=1e-9, steps=1)
        server.serve(30)
        steps.append(server.rest())
    assert steps[1] < 0.8 * steps[0]


def test_what_is_drafted_rests_on_every_text(folder):
    server = Server(folder)
    seen = [server.learner.experience]
    assert seen == [()]
    for _ in range(3):
        server.serve(1)
        seen.append(server.learner.experience)
    assert len(set(seen)) == 4
    assert server.rest() > 0
    assert server.learner.experience == seen[-1]


def test_a_failure_ends_learning_and_nothing_else(folder, caplog, monkeypatch):
    server = Server(folder)
    server.serve(4)
    monkeypatch.setattr(Reader, "read_on", None)
    with caplog.at_level(logging.WARNING, logger="outrider"):
        assert server.rest() == 0
        assert server.rest() == 0
    assert [record.message.split(":")[0] for record in caplog.records] == ["learning failed and ends"]
    assert server.serve(4) > 0


def test_nothing_rests_while_a_text_is_open(folder):
    server = Server(folder)
    server.serve(20)
    handle = server.engine.submit(server.request())
    assert not server.engine.rest()
    while handle.finish_reason is None:
        server.engine.step()
    assert server.engine.rest()


def test_a_request_is_answered_while_the_engine_learns(folder):
    server = Server(folder)

    async def ask():
        async with AsyncEngine(server.engine) as running:
            for _ in range(20):
                async for _ in running.stream(server.request()):
                    pass
            for _ in range(200):  # until it learned something; requests come between
                if server.told:
                    return True
                await asyncio.sleep(0.05)
                tokens = [event async for event in running.stream(server.request(4))]
                assert len(tokens) == 4
            return False

    assert asyncio.run(ask())


def test_other_heads_are_refused_in_one_line():
    with pytest.raises(ModelError, match="is no EAGLE-3 head") as refused:
        IdleLearner("mtp", TARGET)
    assert "\n" not in str(refused.value)
