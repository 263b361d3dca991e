"""Drafters that estimate their chances are told prices: what comes of it, in simulated rounds with known truth."""

from collections.abc import Callable

import numpy as np
import pytest

from exactness.simulated_time import Clock, TimedModel, steady
from outrider import (
    CostCurve,
    DraftingTraits,
    Engine,
    Goodput,
    Outcome,
    Request,
    SamplingParams,
    SuffixDrafter,
    TableModel,
    Times,
)

MOST = 8
STEEP = {(1, n): 1.0 + 0.5 * (n - 1) for n in range(1, 2 + MOST)}
FLAT = {(1, n): 1.0 + 0.01 * (n - 1) for n in range(1, 2 + MOST)}
LINEAR = {(1, n): float(n) for n in range(1, 2 + MOST)}
Says = Callable[[float], float]  # from the true chance of each token to what the drafter thinks of it


def priced(points: dict) -> Goodput:
    """Goodput for a drafter that estimates its chances."""
    policy = Goodput(MOST)
    policy.bind(DraftingTraits(estimates=True), CostCurve(points))
    return policy


def course(points: dict, says: Says, truth: Callable[[np.random.Generator], float], rounds: int = 3000) -> float:
    """Tokens per second, of what plain decoding has: each round the text offers a draft whose tokens are all accepted
    with the same chance."""
    generator = np.random.default_rng(1)
    policy = priced(points)
    emitted = seconds = 0.0
    for _ in range(rounds):
        budget = policy.budgets(["text"])[0]
        chance = truth(generator)
        estimates = [says(chance) ** place for place in range(1, MOST + 1)]
        drafted = budget.prices.worthwhile(estimates) if budget.nodes else 0
        passed = generator.random(drafted) < chance
        accepted = drafted if passed.all() else int(passed.argmin())
        took = points[1, 1 + drafted]
        emitted, seconds = emitted + 1 + accepted, seconds + took
        policy.costs.observe(1, 1 + drafted, took)
        outcome = Outcome("text", budget.nodes, drafted, accepted, expected=sum(estimates[:drafted]))
        policy.observe([outcome], Times(0.0, took, 0.0))
    return emitted / seconds * points[1, 1]


def honest(chance: float) -> float:
    return chance


def bursts(generator: np.random.Generator) -> float:
    return 0.95 if generator.random() < 0.3 else 0.2


def best_of_always(points: dict, truth: Callable[[np.random.Generator], float]) -> float:
    """What the best lookahead that never changes would bring."""
    generator = np.random.default_rng(2)
    chances = np.array([truth(generator) for _ in range(4000)])
    rates = [
        np.mean([(chances**place) for place in range(k + 1)], axis=1).sum() / points[1, 1 + k] for k in range(MOST + 1)
    ]
    return float(max(rates))


def test_it_drafts_where_the_drafter_is_sure_and_nowhere_else() -> None:
    found = course(STEEP, honest, bursts)
    assert found > 1.15  # a drafter that is right in three texts of ten, and knows in which
    assert found > 1.1 * best_of_always(STEEP, bursts)


def test_where_passes_are_flat_it_drafts_as_far_as_it_can() -> None:
    assert course(FLAT, honest, lambda _: 0.7) > 0.97 * best_of_always(FLAT, lambda _: 0.7)


def test_where_nothing_pays_it_is_plain_decoding() -> None:
    assert course(LINEAR, honest, bursts) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("points", [STEEP, LINEAR])
def test_a_drafter_that_promises_too_much_is_soon_not_believed(points: dict) -> None:
    assert course(points, lambda chance: 0.95, lambda _: 0.2) > 0.97


def test_a_drafter_that_promises_too_little_is_believed_more_in_time() -> None:
    assert course(STEEP, lambda chance: 0.9 * chance, lambda _: 0.95) > 0.9 * best_of_always(STEEP, lambda _: 0.95)


def test_a_long_draft_that_fails_is_one_mistake() -> None:
    chances = (0.95**place for place in range(1, MOST + 1))
    policy = priced(STEEP)
    prices = policy.budgets(["text"])[0].prices
    policy.observe([Outcome("text", MOST, MOST, 0, expected=sum(chances))], Times(0.0, 1.0, 0.0))
    policy.forget("text")
    dearer = policy.budgets(["another text"])[0].prices
    assert prices.totals[4] < dearer.totals[4] < 1.5 * prices.totals[4]


def test_trust_that_was_lost_comes_back() -> None:
    texts = iter([0.1] * 600 + [0.95] * 4000)

    def truth(_: np.random.Generator) -> float:
        return next(texts)

    assert course(STEEP, lambda chance: 0.95, truth, rounds=4600) > 1.35  # 1.5 where nothing was ever wrong


@pytest.mark.parametrize("step", [1, 4])
def test_sequences_do_not_all_take_the_last_token_of_a_step(step: int) -> None:
    """A step that none would climb alone is not climbed together either, because each believes the others have."""
    rows = 8
    points = {(rows, n): 1.0 + 0.06 * step * (-(-n // step) - rows // step) for n in range(rows, rows * (1 + MOST) + 1)}
    policy = priced(points)
    texts = list(range(rows))

    def drafted(chance: float) -> int:
        """Tokens that all sequences draft together, when everything is settled and they are asked."""
        last = 0
        for _ in range(60):
            budgets = policy.budgets(texts)
            chances = [chance**place for place in range(1, MOST + 1)]
            counts = [budget.prices.worthwhile(chances) if budget.nodes else 0 for budget in budgets]
            outcomes = [
                Outcome(text, budget.nodes, count, 0, expected=0.0)
                for text, budget, count in zip(texts, budgets, counts, strict=True)
            ]
            policy.observe(outcomes, Times(0.0, points[rows, rows + sum(counts)], 0.0))
            last = sum(counts) if any(budget.nodes for budget in budgets) else last
        return last

    assert drafted(0.9) >= rows * 4
    assert drafted(0.2) == 0


@pytest.mark.parametrize("truth", [0.0, 0.1])
def test_a_drafter_that_takes_long_and_finds_nothing_is_asked_rarely(truth: float) -> None:
    """Looking takes a fifth of a pass: asked in every round, decoding would have five sixths of its speed."""
    policy = priced(STEEP)
    generator = np.random.default_rng(3)
    emitted = seconds = 0.0
    for _ in range(800):
        budget = policy.budgets(["text"])[0]
        offered = [0.9] if generator.random() < truth else []
        drafted = budget.prices.worthwhile(offered) if budget.nodes else 0
        accepted = int(generator.random() < 0.5 * drafted)
        looking, took = 0.2 * bool(budget.nodes), STEEP[1, 1 + drafted]
        emitted, seconds = emitted + 1 + accepted, seconds + looking + took
        policy.observe(
            [Outcome("text", budget.nodes, drafted, accepted, expected=0.9 * drafted)], Times(looking, took, 0)
        )
    assert emitted / seconds > 0.94


def test_what_a_drafter_takes_to_read_each_pass_does_not_count_against_asking_it() -> None:
    """It brings some tenth of a token a round. Reading takes a fifth of a pass, asked or not, and looking nothing."""
    policy = priced(FLAT)
    generator = np.random.default_rng(4)
    asked = []
    for _ in range(800):
        budget = policy.budgets(["text"])[0]
        offered = [0.1] * int(generator.integers(4)) if budget.nodes else []
        drafted = budget.prices.worthwhile(offered)
        asked.append(bool(budget.nodes))
        accepted = int(generator.random() < 0.1 * drafted)
        outcome = Outcome("text", budget.nodes, drafted, accepted, expected=0.1 * drafted)
        policy.observe([outcome], Times(0.2, FLAT[1, 1 + drafted], 0.0))
    assert np.mean(asked[400:]) > 0.9


def test_a_drafter_that_takes_long_and_finds_much_is_asked_again_soon() -> None:
    """Nothing for a while, then copies: most of what they bring is not missed."""
    policy = priced(FLAT)
    asked = []
    for number in range(200):
        budget = policy.budgets(["text"])[0]
        offered = [0.95**place for place in range(1, MOST + 1)] if number >= 100 else []
        drafted = budget.prices.worthwhile(offered) if budget.nodes else 0
        asked.append(bool(budget.nodes))
        times = Times(0.2 * bool(budget.nodes), FLAT[1, 1 + drafted], 0.0)
        policy.observe([Outcome("text", budget.nodes, drafted, drafted, expected=sum(offered[:drafted]))], times)
    assert sum(asked[50:100]) < 20
    assert all(asked[115:])


def test_through_the_engine_it_copies_far_and_leaves_the_rest_alone() -> None:
    # After each token comes the next one, so that the text is a cycle; a suffix that was seen before is right.
    cycle_of_tokens = TableModel(np.where(np.roll(np.eye(12), 1, axis=1) > 0, 9.0, 0.0))
    clock = Clock()
    target = TimedModel(cycle_of_tokens, clock, steady(1.0, 0.3))
    lookaheads: list[int] = []
    engine = Engine(
        target,
        SuffixDrafter(),
        max_rows=1,
        clock=clock,
        observer=lambda record: lookaheads.extend(part.drafted for part in record.sequences),
    )
    engine.submit(Request((0, 1, 2, 3), max_tokens=60, sampling=SamplingParams(temperature=0, seed=0)))
    while not engine.idle:
        engine.step()
    assert lookaheads[:8] == [0] * 8  # nothing has come twice
    assert max(lookaheads) > 8
