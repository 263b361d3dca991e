"""`num_draft_tokens`: each text of a batch has its own limit, and the text is the same."""

import pytest

from exactness.drafters import TreeDrafter
from exactness.simulated_time import Clock, TimedModel, steady
from outrider import (
    Engine,
    Goodput,
    LookupDrafter,
    ModelDrafter,
    Origin,
    Request,
    SamplingParams,
    SuffixDrafter,
    TableModel,
)
from tiny.tables import DRAFT, TARGET

PROMPT = (0, 1, 2)


def decoded(limits, drafter, lookahead=4):
    records = []
    engine = Engine(
        TARGET, drafter, rule="coupled", lookahead=lookahead, max_rows=4, capacity=200, observer=records.append
    )
    handles = [engine.submit(Request(PROMPT, 30, SamplingParams(seed=1), num_draft_tokens=each)) for each in limits]
    while not engine.idle:
        engine.step()
    drafted = {
        handle.id: max(part.drafted for record in records for part in record.sequences if part.sequence == handle.id)
        for handle in handles
    }
    return handles, [drafted[handle.id] for handle in handles]


@pytest.mark.parametrize("make", [lambda: ModelDrafter(DRAFT), lambda: TreeDrafter(DRAFT, 2)])
def test_each_text_has_its_own_limit(make):
    handles, drafted = decoded([None, 0, 2], make())
    assert drafted == [4, 0, 2]
    assert len({tuple(handle.tokens) for handle in handles}) == 1
    assert set(handles[1].stats.origins) == {Origin.PLAIN}


def test_a_policy_that_learns_goes_on_beside_plain_texts():
    handles, drafted = decoded([0, None, 0, 1], ModelDrafter(DRAFT), Goodput())
    assert drafted[0] == drafted[2] == 0
    assert drafted[3] <= 1
    assert len({tuple(handle.tokens) for handle in handles}) == 1


@pytest.mark.parametrize("drafter", [SuffixDrafter, LookupDrafter])
def test_long_drafts_go_on_beside_many_plain_texts(drafter):
    clock = Clock()
    target = TimedModel(TableModel.random(8, 1, spread=9, seed=3), clock, steady(1, 0.001))
    engine = Engine(target, drafter(), max_rows=8, capacity=200, clock=clock)
    greedy = SamplingParams(temperature=0)
    drafted = engine.submit(Request(PROMPT * 4, 100, greedy))
    plain = [engine.submit(Request(PROMPT, 100, greedy, num_draft_tokens=0)) for _ in range(7)]
    while not engine.idle:
        engine.step()
    assert [handle.stats.drafted for handle in plain] == [0] * 7
    assert drafted.stats.accepted > 40
