"""Who waits, who reads how much, which rows share a pass, and how long rows may be."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import (
    CostCurve,
    Engine,
    InputError,
    ModelDrafter,
    QueueFullError,
    Request,
    RoundRecord,
    SamplingParams,
    SettingError,
    TableModel,
)
from outrider.drafters.base import READING_BESIDE_A_DRAFT
from outrider.engine import feeds as feeds_module
from outrider.engine.grouping import group_by_work
from outrider.engine.memory import plan_capacity
from outrider.engine.scheduler import reading_shares
from outrider.engine.warmup import measure_costs
from outrider.runtimes.base import Pass, Scored
from tiny.tables import TARGET

SEEDED = SamplingParams(seed=3)


def request(length: int = 3, max_tokens: int = 5) -> Request:
    return Request(tuple(place % 5 for place in range(length)), max_tokens, SEEDED)


# The queue


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


# Reading prompts


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=40), st.integers(1, 600))
def test_shares_are_fair(unread: list[int], budget: int) -> None:
    shares = reading_shares(unread, budget)
    assert all(1 <= share <= left for share, left in zip(shares, unread, strict=True))
    total = max(budget, 16 * len(unread))
    assert sum(shares) <= total
    if sum(unread) > total:
        assert sum(shares) > total - len(unread)  # but for rounding nothing is left unused
    # Whoever has to wait got as much as anybody, but for rounding.
    for share, left in zip(shares, unread, strict=True):
        assert share == left or share >= max(shares) - 1


def test_a_long_prompt_does_not_stall_the_others(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 16)
    engine = Engine(TARGET, max_rows=3, capacity=1024)
    quick = engine.submit(request(max_tokens=50))
    engine.step()
    long = engine.submit(request(length=500))
    for _ in range(10):
        before = len(quick.tokens)
        engine.step()
        assert len(quick.tokens) == before + 1
    assert not long.tokens
    short = engine.submit(request(length=10))
    for _ in range(2):
        engine.step()
    assert short.tokens  # though the long one came first
    assert not long.tokens
    while not engine.idle:
        engine.step()
    assert len(long.tokens) == 5


def test_reading_in_pieces_changes_nothing(monkeypatch) -> None:
    def decode() -> list[list[int]]:
        drafter = ModelDrafter(TableModel.random(5, 2, spread=1.5, seed=4))
        engine = Engine(TARGET, drafter, lookahead=3, rule="coupled", max_rows=3, capacity=256)
        sequences = [engine.submit(request(length=length, max_tokens=9)) for length in (3, 120, 40, 77, 1)]
        while not engine.idle:
            engine.step()
        assert all(sequence.stats.drafted for sequence in sequences)
        return [sequence.tokens for sequence in sequences]

    whole = decode()
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 16)
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    assert decode() == whole


def test_a_draft_model_reads_along_with_the_target(monkeypatch) -> None:
    monkeypatch.setattr(feeds_module, "READING_ALONE", 20)
    drafter = ModelDrafter(TARGET)
    engine = Engine(TARGET, drafter, lookahead=3, max_rows=1, capacity=256)
    engine.submit(request(length=100))
    for _ in range(4):
        engine.step()
        assert drafter.cache.session.length(0) == engine._session.length(0)
    assert drafter.cache.session.length(0) == 80


# Grouping


def seconds_of(groups, counts, costs) -> float:
    return sum(costs.seconds(len(g), len(g) * max(counts[place] for place in g)) for g in groups)


FLAT = CostCurve({(1, 1): 1.0, (1, 64): 1.1})
STEEP = CostCurve({(1, 1): 1.0, (1, 64): 64.0})
STEPPED = CostCurve({(1, 1): 1.0, (1, 4): 1.0, (1, 5): 3.0, (1, 8): 3.0, (1, 9): 9.0, (1, 64): 60.0})


def test_rows_of_unequal_work_are_parted_where_padding_is_dear() -> None:
    counts = [1, 17, 1, 1, 17, 2]
    assert group_by_work(counts, FLAT) == [[0, 1, 2, 3, 4, 5]]
    assert group_by_work(counts, STEEP) == [[0, 2, 3], [5], [1, 4]]
    assert group_by_work([3, 3, 3], STEEP) == [[0, 1, 2]]
    assert group_by_work([3, 3], STEPPED) == [[0], [1]]  # 2 x 1 second, and 3 seconds together
    assert group_by_work([], STEEP) == []


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.sampled_from([FLAT, STEEP, STEPPED]))
def test_no_other_partition_in_order_is_cheaper(counts: list[int], costs: CostCurve) -> None:
    groups = group_by_work(counts, costs)
    assert sorted(place for group in groups for place in group) == list(range(len(counts)))
    order = sorted(range(len(counts)), key=lambda place: counts[place])
    every = [
        [order[a:b] for a, b in zip((0, *cuts), (*cuts, len(order)), strict=True)]
        for size in range(len(counts))
        for cuts in combinations(range(1, len(order)), size)
    ]
    cheapest = min(seconds_of(partition, counts, costs) for partition in every)
    assert seconds_of(groups, counts, costs) == pytest.approx(cheapest)


# Memory


class Sized(TableModel):
    """A table model that says what its cache takes."""

    free = 10_000_000

    def free_bytes(self) -> int:
        return self.free


SIZED = Sized(TARGET.table, context_length=4096)
SIZED.traits = replace(SIZED.traits, bytes_per_token=1000)


def test_rows_are_as_long_as_memory_allows() -> None:
    assert plan_capacity(SIZED, None, 1, None, None) == 4096
    # 80 per cent of 10 MB, less a thousandth for logits, over 8 rows of 1000 bytes a token, in steps of 256.
    assert plan_capacity(SIZED, None, 8, None, None) == 768
    # The drafter's cache counts as well.
    assert plan_capacity(SIZED, ModelDrafter(SIZED), 8, None, None) == 256
    assert plan_capacity(SIZED, None, 8, 500, None) == 500
    assert plan_capacity(SIZED, None, 8, None, 80_000_000) == 4096
    assert plan_capacity(TARGET, None, 8, None, 1) == TARGET.traits.context_length  # keeps no cache


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


# Costs at start


def test_costs_are_measured_with_the_clock_of_the_engine() -> None:
    class Ticking:
        """Every pass takes a second, and a tenth for each of its tokens."""

        def __init__(self) -> None:
            self.now = 0.0
            self.session = TARGET.open(4, 64)
            self.rows = 4
            self.capacity = 64

        def extend(self, work: Pass) -> Scored:
            self.now += 1 + sum(map(len, work.tokens)) / 10
            return self.session.extend(work)

        def __getattr__(self, name):
            return getattr(self.session, name)

    session = Ticking()
    costs = measure_costs(session, 5, lambda: session.now)
    for rows, tokens in ((1, 1), (1, 5), (1, 17), (4, 4), (4, 16), (2, 6)):
        assert costs.seconds(rows, tokens) == pytest.approx(1 + tokens / 10)
    assert [session.length(row) for row in range(4)] == [0, 0, 0, 0]
    assert np.isfinite(costs.seconds(4, 400))


def test_no_draft_stands_behind_a_long_piece_of_a_prompt() -> None:
    """It would change how the piece is rounded, and so the text behind it."""
    target = TableModel.random(6, 1, seed=3)
    for length, drafts in ((READING_BESIDE_A_DRAFT + 1, True), (feeds_module.READING_ALONE, False)):
        records: list[RoundRecord] = []
        engine = Engine(target, ModelDrafter(target), lookahead=2, max_rows=1, observer=records.append)
        engine.submit(Request((1,) * length, 8, SamplingParams(temperature=0, seed=0)))
        while not engine.idle:
            engine.step()
        assert [bool(record.sequences[0].drafted) for record in records][:2] == [drafts, True]
