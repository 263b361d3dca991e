"""Lookahead policies in simulated rounds: Goodput stays within 5 % of an oracle that knows costs and acceptance."""

import json

import numpy as np
import pytest

from benchmarks.__main__ import run
from benchmarks.simulation.catalogue import (
    BOASTER,
    COPIER,
    LOOKUP,
    bursts,
    changing,
    copied,
    drifting,
    h100,
    llama_cpp,
    measured,
    mixed,
    scenarios,
    steady,
    torch_cpu,
)
from benchmarks.simulation.oracle import Oracle
from benchmarks.simulation.picture import draw_regrets
from benchmarks.simulation.regret import Regret, measure_regret, policies
from benchmarks.simulation.rounds import simulate
from benchmarks.simulation.scenario import LONGEST, Drafting, Scenario, Texts
from outrider import CostCurve, Fixed, Goodput
from outrider.errors import SettingError

WITHIN = 0.05
FEW = [
    Scenario("flat, good", h100, steady(0.9), LOOKUP, texts=4),
    Scenario("flat, many rows", h100, mixed(0.2, 0.9), LOOKUP, rows=8, texts=32, tokens=256),
    Scenario("steps", llama_cpp, steady(0.9), LOOKUP),
    Scenario("0 is right", llama_cpp, steady(0.2), LOOKUP, texts=4),
    Scenario("recovers", llama_cpp, changing(0.1, 0.9), LOOKUP, texts=1, tokens=3000),
    Scenario("copies", llama_cpp, copied(0.2, 0.95, 30, 90), COPIER, rows=8, texts=32, tokens=256),
    Scenario("boasts", llama_cpp, copied(0.2, 0.95, 30, 90), BOASTER, texts=8),
    Scenario("draft model", torch_cpu, mixed(0.5, 0.8), Drafting(position=7e-3), texts=4),
]


@pytest.fixture(scope="module")
def regrets() -> list[Regret]:
    """Of every policy, in every scenario."""
    return measure_regret(FEW)


@pytest.mark.parametrize("number", range(len(FEW)), ids=lambda number: FEW[number].name)
def test_goodput_stays_near_the_oracle(regrets: list[Regret], number: int) -> None:
    assert regrets[number].regrets["Goodput"] < WITHIN
    # None does much better than what sees the truth; a little, because the oracle looks no further than a round.
    assert min(regrets[number].regrets.values()) > -WITHIN


@pytest.mark.parametrize("scenario", FEW, ids=lambda scenario: scenario.name)
def test_goodput_stays_near_the_oracle_over_other_texts(scenario: Scenario) -> None:
    texts = Texts(scenario, 1)
    oracle = simulate(scenario, Oracle(scenario, texts), texts, 1)
    assert 1 - course(scenario, Goodput(), 1).tokens_per_second / oracle.tokens_per_second < WITHIN


def test_no_fixed_lookahead_stays_near_the_oracle_everywhere(regrets: list[Regret]) -> None:
    worst = dict.fromkeys(policies(), 0.0)
    for regret in regrets[:4]:
        worst = {name: max(worst[name], each) for name, each in regret.regrets.items()}
    assert min(each for name, each in worst.items() if name != "Goodput") > 0.2


def course(scenario: Scenario, policy, seed: int = 0):
    return simulate(scenario, policy, Texts(scenario, seed), seed)


def test_goodput_does_not_draft_where_nothing_is_accepted_but_looks_again() -> None:
    scenario = Scenario("hopeless", llama_cpp, steady(0.02), LOOKUP, texts=1, tokens=2000)
    lookaheads = course(scenario, Goodput()).lookaheads
    late = lookaheads[200:]
    assert 0 < np.count_nonzero(late) < len(late) / 50


def test_goodput_recovers_when_drafts_become_good() -> None:
    scenario = Scenario("recovers", llama_cpp, changing(0.02, 0.95), LOOKUP, texts=1, tokens=2000)
    found = course(scenario, Goodput())
    soon = [k for k, place in zip(found.lookaheads, found.places, strict=True) if place > 1200]
    assert np.mean(soon) > 6


def test_a_mistake_in_the_costs_is_found() -> None:
    """A policy that believes every pass to cost the same drafts on where it should not."""

    class Blind(CostCurve):
        def table(self, rows: int, most: int, hope: float = 0.0):
            return np.ones(most + 1)

        def short_table(self, rows: int, most: int, hope: float = 0.0):
            return [1.0] * (most + 1)

    blind = Goodput(costs=Blind())
    assert 1 - tokens_per_second(FEW[3], blind) / tokens_per_second(FEW[3], Fixed(0)) > 3 * WITHIN


def tokens_per_second(scenario: Scenario, policy) -> float:
    return course(scenario, policy).tokens_per_second


# The simulation itself


@pytest.mark.parametrize("lookahead", [0, 1, 5])
def test_a_steady_chance_brings_what_theory_says(lookahead: int) -> None:
    chance, seconds = 0.7, 0.01
    scenario = Scenario("flat", lambda rows, tokens: seconds, steady(chance), overhead=0.0, texts=40, tokens=1000)
    expected = sum(chance**i for i in range(lookahead + 1)) / seconds
    assert tokens_per_second(scenario, Fixed(lookahead)) == pytest.approx(expected, rel=0.02)


def test_a_drafter_that_stops_is_paid_for_what_it_drafts() -> None:
    silent = Drafting(call=1.0, token=100.0, silence=1.0)
    scenario = Scenario("silent", lambda rows, tokens: float(tokens), steady(0.9), silent, overhead=0.0, texts=1)
    assert tokens_per_second(scenario, Fixed(8)) == pytest.approx(1.0)


def test_a_drafter_that_heeds_prices_is_told_what_drafts_cost_and_decides() -> None:
    """Free drafts are made, dear ones are not, and what became of them is told with what was expected."""
    told: list = []

    class Watched(Goodput):
        def observe(self, outcomes, times):
            told.extend(outcomes)
            super().observe(outcomes, times)

    flat = Scenario("flat", lambda rows, tokens: 0.01, steady(0.5), COPIER, texts=1, tokens=400)
    found = course(flat, Watched())
    assert max(found.lookaheads[20:]) > 4
    assert all(outcome.planned in (LONGEST, 0) or outcome.drafted <= outcome.planned for outcome in told)
    drafts = [outcome for outcome in told if outcome.drafted == 3]
    assert all(outcome.expected == pytest.approx(0.5 + 0.25 + 0.125) for outcome in drafts)
    steep = Scenario("steep", lambda rows, tokens: 0.01 * tokens, steady(0.5), COPIER, texts=1, tokens=400)
    assert np.mean(course(steep, Goodput()).lookaheads) < 0.1
    # Policies without prices leave it no choice.
    assert set(course(flat, Fixed(3)).lookaheads[:50]) == {3}


def test_a_drafter_that_boasts_is_right_as_often_as_said() -> None:
    scenario = Scenario("sure", h100, steady(1.0), BOASTER, texts=200, tokens=8)
    texts = Texts(scenario, 0)
    assert texts.estimates(0).tolist() == [1.0] * LONGEST
    assert texts.survival(0).tolist() == [BOASTER.sound] * LONGEST
    accepted = [texts.draft(text, 5)[1] for text in range(scenario.texts)]
    assert set(accepted) == {0, 5}
    assert np.mean(accepted) / 5 == pytest.approx(BOASTER.sound, abs=0.12)


def test_policies_meet_the_same_luck() -> None:
    scenario = Scenario("half", h100, steady(0.5), texts=20)

    def drafts(seed: int) -> list[tuple[int, int]]:
        texts = Texts(scenario, seed)
        return [texts.draft(text, 4) for text in range(scenario.texts)]

    assert drafts(3) == drafts(3) != drafts(4)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_oracle_finds_the_best_of_all_plans(rows: int, seed: int) -> None:
    drafting = Drafting(call=0.5e-3, position=2e-3, token=0.2e-3)
    scenario = Scenario("small", llama_cpp, mixed(0.2, 0.95), drafting, rows=rows, texts=rows, tokens=64)
    texts = Texts(scenario, seed)
    expected = [np.concatenate([[0], np.cumsum(texts.survival(text))]) for text in range(rows)]

    def rate(plan) -> float:
        tokens = rows + sum(expected[row][lookahead] for row, lookahead in enumerate(plan))
        drafted = sum(plan)
        draft_time = (drafted > 0) * drafting.call + drafting.position * max(plan) + drafting.token * drafted
        return tokens / (scenario.seconds(rows, rows + drafted) + draft_time + scenario.overhead)

    plans = np.ndindex(*(LONGEST + 1,) * rows)
    assert rate(Oracle(scenario, texts).plan(range(rows))) == pytest.approx(max(map(rate, plans)))


def test_curves_go_through_what_was_measured() -> None:
    assert [llama_cpp(1, tokens) for tokens in (1, 2, 3, 4, 5, 8)] == [0.0095, 0.0155, 0.0185, 0.0195, 0.0275, 0.0275]
    assert measured({1: 10.0, 2: 20.0})(1, 4) == pytest.approx(0.04)
    assert h100(1, 1) == pytest.approx(h100(1, 64), rel=0.1)
    assert h100(16, 272) > 2 * h100(16, 16)


def test_chances_are_chances() -> None:
    generator = np.random.default_rng(0)
    for chances in (
        steady(0.5),
        mixed(0.1, 0.9),
        changing(0.1, 0.9),
        drifting(0.2, 0.9, 50),
        bursts(0.1, 0.9, 20),
        copied(0.1, 0.9, 9, 20),
    ):
        by_place = chances(generator, 100)
        assert by_place.shape == (100,)
        assert 0 <= by_place.min() <= by_place.max() <= 1
    assert changing(0.1, 0.9)(generator, 100).tolist() == [0.1] * 50 + [0.9] * 50


# As a user sees it


def test_the_command_prints_a_table_and_draws(monkeypatch, tmp_path, capsys) -> None:
    few = [Scenario("a", llama_cpp, changing(0.1, 0.9), LOOKUP, texts=2, tokens=60)]
    monkeypatch.setattr("benchmarks.simulation.command.scenarios", lambda: few)
    assert run(["simulate"]) == 0
    assert "Goodput" in capsys.readouterr().out
    assert run(["simulate", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["regrets"].keys() == policies().keys()
    pytest.importorskip("matplotlib")
    assert run(["simulate", "--markdown", "--plot", str(tmp_path / "regret.svg")]) == 0
    assert capsys.readouterr().out.startswith("| scenario | oracle, tokens/s | always 0 |")
    assert "Goodput" in (tmp_path / "regret.svg").read_text("utf-8")


def test_a_picture_of_another_kind_is_refused_before_anything_is_simulated(capsys) -> None:
    assert run(["simulate", "--plot", "a.pdf"]) == 2
    assert "end it in .svg or .png" in capsys.readouterr().err


def test_a_picture_of_another_format_is_refused(tmp_path) -> None:
    with pytest.raises(SettingError, match=r"end it in \.svg or \.png"):
        draw_regrets(measure_regret([Scenario("a", h100, steady(0.5), texts=1, tokens=20)]), tmp_path / "a.pdf")


def test_the_scenarios_have_names_of_their_own() -> None:
    named = [(scenario.name, scenario.rows) for scenario in scenarios()]
    assert len(set(named)) == len(named)
