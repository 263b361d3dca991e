"""What the host does while a device runs, and which device works: with the CPU in the place of one or two."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import ClassVar

import pytest
from test_graphs import even_clock

from tiny.runtimes import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outrider import (  # noqa: E402
    AsyncEngine,
    DynamicTree,
    Engine,
    Fixed,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    SamplingParams,
)
from outrider.runtimes.torch.cuda.device import Host  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402

LONGEST_WAIT = 20  # seconds


class Waiting(Host):
    """A pass is done only when the client has read all tokens of the rounds before.

    Attributes:
        emitted: how many tokens there were in the last rounds.
        read: how many the client has read.
        waited: how often the host waited while tokens were on their way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.emitted = self.read = self.waited = 0
        self.late = False

    def mark(self):
        emitted = self.emitted

        def wait() -> None:
            ends = time.monotonic() + LONGEST_WAIT
            self.waited += self.read < emitted
            while self.read < emitted and not self.late:
                self.late = time.monotonic() > ends
                time.sleep(0.001)

        return wait


def working_alone(device, alone=True, **config):
    """A model of which the engine knows that its passes return before the device is done; otherwise the same."""
    model = GraphedLlama.of(tiny("Llama", **config), device=device)
    model.traits = replace(model.traits, asynchronous=alone)
    return model


@pytest.mark.parametrize("alone", [False, True])
def test_tokens_of_the_last_round_are_streamed_while_the_device_runs(alone):
    device = Waiting()

    def note(record) -> None:
        device.emitted += sum(len(part.tokens) for part in record.sequences)

    engine = Engine(working_alone(device, alone), None, max_rows=1, capacity=64, observer=note)

    async def read() -> None:
        async with AsyncEngine(engine) as running:
            async for _ in running.stream(Request((3, 5, 7), 20, SamplingParams(seed=1), stop_token_ids=frozenset())):
                device.read += 1

    asyncio.run(read())
    assert not device.late
    assert device.read == 20


COPY = PASS = 5  # units of time, of the device
OBSERVING, HANDING_OUT = 3, 4  # of the host


class Clocked(Host):
    """A device with a clock of its own: it works on copies and passes one after the other, while the host goes on.

    Attributes:
        now: the time of the host, which passes where it works and where it waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.done = 0

    def mark(self):
        self.done = done = max(self.now, self.done) + PASS  # or as long a copy

        def wait() -> None:
            self.now = max(self.now, done)

        return wait


def timed(alone, rounds=6):
    """How long a round takes whose host observes and hands out, and in which order that happens."""
    device, log = Clocked(), []

    def observe(record) -> None:
        device.now += OBSERVING
        log.append(("observed", record.number))

    def hand_out(number) -> None:
        device.now += HANDING_OUT
        log.append(("handed out", number))

    engine = Engine(working_alone(device, alone), None, lookahead=Fixed(0), max_rows=1, capacity=64, observer=observe,
                    clock=lambda: float(device.now))  # fmt: skip
    handle = engine.submit(Request((3, 5, 7), 40, SamplingParams(temperature=0), stop_token_ids=frozenset()))
    engine.step()
    started = device.now
    for number in range(rounds):
        engine.step(lambda number=number: hand_out(number))
    return (device.now - started) / rounds, log, handle, engine


def test_a_round_takes_as_long_as_the_device_where_the_host_has_less_to_do():
    assert timed(True)[0] == COPY + PASS
    assert timed(False)[0] == COPY + PASS + OBSERVING + HANDING_OUT


def test_what_is_done_meanwhile_keeps_its_order():
    """Each round is observed before its tokens are handed out, and both before the next one is observed."""
    _, log, handle, engine = timed(True)
    in_turn = [each for number in range(6) for each in (("observed", number), ("handed out", number))]
    assert log == in_turn  # the newest round is observed when the next one runs
    handle.cancel()
    assert log == [*in_turn, ("observed", 6)]  # or when a text ends
    assert engine.idle


def test_an_error_of_the_host_is_none_of_the_pass():
    device, calls = Clocked(), []

    def observe(record) -> None:
        calls.append(record.number)
        if record.number == 2:
            raise RuntimeError("the disk is full")

    request = Request((3, 5, 7), 12, SamplingParams(seed=1), stop_token_ids=frozenset())
    engine = Engine(working_alone(device), None, max_rows=1, capacity=64, observer=observe)
    plain = Engine(working_alone(Host()), None, max_rows=1, capacity=64)
    handle, expected = engine.submit(request), plain.submit(request)
    for _ in range(3):
        engine.step()  # the record of the last round but one fails while this one runs
    with pytest.raises(RuntimeError, match="the disk is full"):
        engine.step()
    while not engine.idle:
        engine.step()
    while not plain.idle:
        plain.step()
    assert handle.error is None
    assert handle.tokens == expected.tokens
    assert calls == sorted(set(calls))  # no pass ran twice


def test_what_is_done_meanwhile_is_done_where_nothing_runs():
    engine, done = Engine(working_alone(Host()), None, max_rows=1, capacity=64), []
    assert engine.step(lambda: done.append(1)) == []
    assert done == [1]


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_texts_and_drafts_are_those_of_rounds_without_overlap(temperature):
    def rounds(alone):
        records = []
        draft = GraphedLlama.of(tiny("Llama"), device=Host())
        engine = Engine(
            working_alone(Host(), alone), ModelDrafter(draft), lookahead=Fixed(3), max_rows=3, capacity=64,
            observer=records.append, clock=even_clock(),
        )  # fmt: skip
        for row in range(5):  # more than rows, of unlike length
            sampling = SamplingParams(temperature=temperature, seed=row)
            engine.submit(Request((3, 5, row), 10 + 3 * row, sampling, stop_token_ids=frozenset()))
        events = []
        while not engine.idle:
            events += engine.step()
        return events, records

    assert rounds(True) == rounds(False)


class Guarded(Host):
    """Notes what is done on it outside its own guard."""

    inside: ClassVar[list] = []
    wrong: ClassVar[list] = []

    @contextlib.contextmanager
    def guard(self):
        self.inside.append(self)
        try:
            yield
        finally:
            self.inside.pop()

    def check(self, what: str) -> None:
        if not self.inside or self.inside[-1] is not self:
            self.wrong.append(what)

    def mark(self):
        self.check("mark")
        return super().mark()

    def fetch(self, found):
        self.check("fetch")
        return super().fetch(found)

    def capture(self, work):
        self.check("capture")

        def replay() -> None:
            self.check("replay")
            work()

        return replay


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_each_of_two_devices_works_within_its_own_guard(temperature):
    target, draft = (GraphedLlama.of(tiny("Llama"), device=Guarded()) for _ in range(2))
    engine = Engine(
        target, ModelTreeDrafter(draft, DynamicTree(2, 3, 2)), lookahead=Fixed(4), max_rows=2, capacity=64
    )  # fmt: skip
    for row in range(2):
        engine.submit(Request((3, 5, row), 24, SamplingParams(temperature=temperature, seed=row)))
    while not engine.idle:
        engine.step()
    assert Guarded.wrong == []
    assert Guarded.inside == []
