"""Prices of drafts: how much to draft where tokens are known, and where to stop before they are drawn."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.maths.budget import FREE, Budget, Prices

prices = st.lists(st.floats(0, 3), min_size=1, max_size=12).map(lambda steps: Prices((0.0, *accumulate(steps))))
falling = st.lists(st.floats(0, 1), min_size=1, max_size=14).map(lambda factors: [*accumulate(factors, float.__mul__)])


@given(prices, falling)
def test_the_draft_that_brings_most_is_found(priced: Prices, chances: list[float]) -> None:
    gains = [sum(chances[:n]) - total for n, total in enumerate(priced.totals[: len(chances) + 1])]
    assert gains[priced.worthwhile(chances)] == pytest.approx(max(gains), abs=1e-9)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12).map(sorted), falling)
def test_where_each_token_costs_more_than_the_last_stopping_early_is_as_good(steps, chances) -> None:
    priced = Prices((0.0, *accumulate(steps)))
    chances = chances[: len(steps)]
    count = next((place for place, chance in enumerate(chances) if not priced.pays(place, chance)), len(chances))
    gains = [sum(chances[:n]) - priced.totals[n] for n in range(len(chances) + 1)]
    assert gains[count] == pytest.approx(max(gains), abs=1e-9)


def test_a_step_in_the_cost_is_shared_by_the_tokens_that_lead_up_to_it() -> None:
    stepped = Prices((0.0, 1.0, 1.1, 1.2, 3.0))  # three tokens for little more than one
    assert stepped.worthwhile([0.5, 0.45, 0.44, 0.43]) == 3
    assert [stepped.pays(place, 0.43) for place in range(5)] == [True, True, True, False, False]
    assert not stepped.pays(0, 0.39)


def test_without_prices_everything_is_worth_drafting() -> None:
    assert FREE.worthwhile([0.1, 0.01]) == 2
    assert FREE.pays(100, 0.0)
    assert Budget(7, 3).longest == 3
    assert Prices((0.0,)).worthwhile([1.0]) == 0
    assert not Prices((0.0,)).pays(0, 1.0)


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12),
    st.lists(st.floats(0.0, 0.6), min_size=1, max_size=12),
)
def test_what_ends_a_tree_early_leaves_out_nothing_worthwhile(chances: list[float], steps: list[float]) -> None:
    """Tokens are looked at one by one, likeliest first, until `ends` says so."""
    chances.sort(reverse=True)
    prices = Prices((0.0, *accumulate(steps)))
    seen: list[float] = []
    for chance in chances:
        if prices.ends(len(seen), chance):
            break
        seen.append(chance)

    def gain(count: int) -> float:
        return sum(chances[:count]) - prices.totals[count]

    assert gain(prices.worthwhile(seen)) >= gain(prices.worthwhile(chances)) - 1e-9
