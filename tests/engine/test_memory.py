"""How long rows may be."""

from dataclasses import replace

import pytest

from outrider import (
    Engine,
    InputError,
    ModelDrafter,
    Request,
    SamplingParams,
    SettingError,
    TableModel,
)
from outrider.engine.memory import plan_capacity
from tiny.tables import TARGET

SEEDED = SamplingParams(seed=3)


def request(length: int = 3, max_tokens: int = 5) -> Request:
    return Request(tuple(place % 5 for place in range(length)), max_tokens, SEEDED)


class Sized(TableModel):
    """A table model that says what its cache takes."""

    free = 10_000_000

    def free_bytes(self) -> int:
        return self.free


SIZED = Sized(TARGET.table, context_length=4096)
SIZED.traits = replace(SIZED.traits, bytes_per_token=1000)


def test_rows_are_as_long_as_memory_allows() -> None:
    assert plan_capacity(SIZED, [], 1, None, None) == 4096
    # 80 per cent of 10 MB, less a thousandth for logits, over 8 rows of 1000 bytes a token, in steps of 256.
    assert plan_capacity(SIZED, [], 8, None, None) == 768
    # The drafter's cache counts as well.
    assert plan_capacity(SIZED, [ModelDrafter(SIZED)], 8, None, None) == 256
    assert plan_capacity(SIZED, [], 8, 500, None) == 500
    assert plan_capacity(SIZED, [], 8, None, 80_000_000) == 4096
    assert plan_capacity(TARGET, [], 8, None, 1) == TARGET.traits.context_length  # keeps no cache


def test_what_does_not_fit_is_refused_before_it_runs_out() -> None:
    with pytest.raises(SettingError, match=r"8 rows of 2000 tokens need 0\.02 GB.*0\.01 GB are available.*fewer rows"):
        Engine(SIZED, max_rows=8, capacity=2000)
    with pytest.raises(SettingError, match="1000 rows of 256 tokens"):
        Engine(SIZED, max_rows=1000)


def test_a_request_that_is_too_large_for_a_row_is_refused() -> None:
    engine = Engine(SIZED, max_rows=8)
    with pytest.raises(InputError, match="needs 1003 tokens, 3 of prompt and 1000 of output, and a row of this engine"):
        engine.submit(request(max_tokens=1000))
    engine.submit(request(max_tokens=765))


def test_a_row_as_long_as_the_context_cuts_what_goes_beyond() -> None:
    engine = Engine(TableModel(TARGET.table, context_length=10), max_rows=1)
    sequence = engine.submit(request(max_tokens=100))
    while not engine.idle:
        engine.step()
    assert len(sequence.tokens) == 7
