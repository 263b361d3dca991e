"""What the host does while a device runs, and which device works: with the CPU in the place of one or two."""

import asyncio
import contextlib
import time
from typing import ClassVar

import pytest
from test_sessions import tiny

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from outrider import AsyncEngine, DynamicTree, Engine, Fixed, ModelTreeDrafter, Request, SamplingParams  # noqa: E402
from outrider.runtimes.torch.cuda.device import Host  # noqa: E402
from outrider.runtimes.torch.cuda.model import GraphedLlama  # noqa: E402

LONGEST_WAIT = 20  # seconds


class Waiting(Host):
    """A pass is done only when the client has read all tokens of the rounds before.

    Attributes:
        emitted: how many tokens there were of late.
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


def test_tokens_of_the_last_round_are_streamed_while_the_device_runs():
    device = Waiting()

    def note(record) -> None:
        device.emitted += sum(len(part.tokens) for part in record.sequences)

    engine = Engine(GraphedLlama.of(tiny("Llama"), device=device), None, max_rows=1, capacity=64, observer=note)

    async def read() -> None:
        async with AsyncEngine(engine) as running:
            async for _ in running.stream(Request((3, 5, 7), 20, SamplingParams(seed=1), stop_token_ids=frozenset())):
                device.read += 1

    asyncio.run(read())
    assert not device.late
    assert device.read == 20


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
