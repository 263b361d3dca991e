"""The queue: first come, first served, and as many as there is room for."""

import pytest

from outrider import (
    Engine,
    QueueFullError,
    Request,
    SamplingParams,
    SettingError,
)
from tiny.tables import TARGET

SEEDED = SamplingParams(seed=3)


def request(length: int = 3, max_tokens: int = 5) -> Request:
    return Request(tuple(place % 5 for place in range(length)), max_tokens, SEEDED)


def test_first_come_first_served() -> None:
    engine = Engine(TARGET, max_rows=2, capacity=64)
    sequences = [engine.submit(request(max_tokens=2 + place)) for place in range(6)]
    order = []
    while not engine.idle:
        engine.step()
        order += [sequence for sequence in engine.active if sequence not in order]
    assert order == [sequence for sequence in sequences if sequence in order]
    assert all(sequence.finish_reason for sequence in sequences)


def test_a_full_queue_refuses_and_serves_on() -> None:
    engine = Engine(TARGET, max_rows=1, capacity=64, max_waiting=2)
    sequences = [engine.submit(request()) for _ in range(3)]
    assert not engine.has_room
    with pytest.raises(QueueFullError, match=r"0 texts are decoded and 3 wait.*larger max_waiting"):
        engine.submit(request())
    engine.step()
    while not engine.idle:
        engine.step()
    assert [len(sequence.tokens) for sequence in sequences] == [5, 5, 5]
    engine.submit(request())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rows": 0}, "max_rows is 0: it must be at least 1"),
        ({"max_waiting": -1}, "max_waiting is -1"),
        ({"capacity": 1}, "capacity is 1: it must be at least 2"),
        ({"rule": "tokens"}, "rule 'tokens' is unknown"),
    ],
)
def test_engines_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(SettingError, match=message):
        Engine(TARGET, **({"capacity": 64} | settings))
