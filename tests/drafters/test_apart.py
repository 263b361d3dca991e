"""A drafter for each isolation key: what one key's texts taught shows in no other's drafts."""

import pytest

from outrider import Engine, Request, SamplingParams
from outrider.drafters.lookup.drafter import RecyclingDrafter
from outrider.drafters.several.apart import Apart
from tiny.tables import TARGET


def drafted(engine: Engine, isolation: str) -> tuple[int, int]:
    """How many tokens were drafted and accepted for one text."""
    greedy = SamplingParams(temperature=0)
    handle = engine.submit(Request((0, 1, 2), 30, greedy, isolation=isolation))
    while not engine.idle:
        engine.step()
    return handle.stats.drafted, handle.stats.accepted


def opened(most: int = 8, **settings) -> Engine:
    return Engine(TARGET, Apart(RecyclingDrafter, most), lookahead=4, max_rows=2, **settings)


@pytest.mark.parametrize("prefix_caching", [True, False])
def test_a_key_learns_from_its_own_texts_alone(prefix_caching: bool) -> None:
    engine = opened(prefix_caching=prefix_caching)
    first = drafted(engine, "a")
    again = drafted(engine, "a")
    assert drafted(engine, "b") == first
    assert (again != first) == prefix_caching  # without keys nothing is kept at all


def test_texts_of_several_keys_decode_at_once() -> None:
    engine = opened()
    greedy = SamplingParams(temperature=0)
    handles = [engine.submit(Request((0, 1, 2), 30, greedy, isolation=key)) for key in ("a", "b", "a")]
    while not engine.idle:
        engine.step()
    assert len({tuple(handle.tokens) for handle in handles}) == 1
    assert drafted(engine, "a") != drafted(opened(), "a")
    assert engine.drafter_failures == 0


def test_the_keys_used_last_are_kept() -> None:
    engine = opened(most=2)
    first = drafted(engine, "a")
    assert drafted(engine, "b") == first
    assert drafted(engine, "a") != first  # a is among the last two
    drafted(engine, "b"), drafted(engine, "c")  # a goes
    assert drafted(engine, "a") == first
