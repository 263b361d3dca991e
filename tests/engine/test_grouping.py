"""Which rows share a pass."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider import (
    CostCurve,
)
from outrider.engine.grouping import group_by_work


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
