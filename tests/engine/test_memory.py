"""How long rows may be."""

from dataclasses import replace

import pytest

from outrider import (
    Engine,
    Fixed,
    Goodput,
    InputError,
    ModelDrafter,
    Request,
    SamplingParams,
    SettingError,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.engine.memory import plan_capacity, widest_draft
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


def test_wide_drafts_are_bounded_by_memory() -> None:
    wide = Sized(TARGET.table, context_length=4096)
    wide.traits = replace(SIZED.traits, widest=512)
    trees = SuffixTreeDrafter()
    drafters = [trees]
    # A node takes 1000 bytes of cache and 60 of logits; a quarter of the memory is for them.
    assert [widest_draft(wide, drafters, 1, limit) for limit in (None, 2_200_000, 1_000_000, 1000)] == [
        512,
        512,
        128,
        16,
    ]
    assert widest_draft(wide, drafters, 8, 2_200_000) == 64
    assert widest_draft(SIZED, drafters, 1, None) == 16
    assert plan_capacity(wide, drafters, 1, 64, 700_000, 512) == 64
    with pytest.raises(SettingError, match=r"1 rows of 64 tokens need .* and 0\.00 GB are available"):
        Engine(wide, trees, lookahead=Goodput(512), max_rows=1, capacity=64, memory_limit=300_000)
    assert Engine(wide, trees, lookahead=Fixed(200), max_rows=1, capacity=64).capacity == 64


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
