"""Runs a policy on the texts of a scenario, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.scenario import Scenario, Texts
from outrider.engine.warmup import measure_costs
from outrider.lookahead import CostCurve, DraftingTraits, LookaheadPolicy, Outcome, Times
from outrider.runtimes.base import Pass, Scored

NOISE = 0.05  # standard deviation of the logarithm of a pass's time
HICCUP = 0.01  # the probability that another program holds a pass up
HELD_UP = 3.0  # times as long as otherwise
VOCABULARY = 1000  # token ids of the warm-up, which times passes over any tokens


@dataclass(frozen=True, slots=True)
class Course:
    """One run of a policy.

    Attributes:
        tokens: emitted in all texts.
        seconds: the expected time of all rounds.
        lookaheads: of the text in the first row, round by round: as planned, or as drafted by drafters with prices.
        places: how many tokens this text had before each of these rounds.
    """

    tokens: int
    seconds: float
    lookaheads: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


class _TimedSession:
    """A session whose passes take simulated seconds, for the engine's warm-up."""

    def __init__(self, scenario: Scenario, noise: Callable[[], float]) -> None:
        self.rows = scenario.rows
        self.capacity = 4096
        self.now = 0.0
        self._scenario = scenario
        self._noise = noise

    def length(self, row: int) -> int:
        return 0

    def extend(self, work: Pass) -> Scored:
        self.now += self._scenario.seconds(len(work.rows), sum(map(len, work.tokens))) * self._noise()
        return Scored(np.zeros((1, 1)))

    def rollout(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], count: int, vocab_size: int
    ) -> list[list[int]]:
        raise NotImplementedError  # costs are measured, nothing is drafted

    def keep(self, row: int, path: Sequence[int]) -> None: ...

    def truncate(self, row: int, length: int) -> None: ...

    def adopt(self, row: int, source: int, length: int) -> None: ...

    def release(self, row: int) -> None: ...


def simulate(scenario: Scenario, policy: LookaheadPolicy, texts: Texts, seed: int = 0) -> Course:
    """Decode all texts of a scenario, `rows` at a time, as the engine would with this policy."""
    noise = _noise(seed)
    _bind(policy, scenario, noise)
    waiting = list(range(scenario.texts))[::-1]
    active: list[int] = []
    seconds = 0.0
    lookaheads, places = [], []
    while waiting or active:
        while waiting and len(active) < scenario.rows:
            active.append(waiting.pop())
        lengths = [texts.emitted[text] for text in active]
        asked, outcomes = _draft(scenario, policy, texts, active)
        if active[0] == 0:
            lookaheads.append(asked[0])
            places.append(lengths[0])
        drafting, verification = _seconds(scenario, outcomes)
        seconds += drafting + verification + scenario.overhead
        measured = verification * noise()
        if policy.costs is not None:
            policy.costs.observe(len(active), len(active) + sum(each.drafted for each in outcomes), measured)
        policy.observe(outcomes, Times(drafting * noise(), measured, scenario.overhead * noise()))
        for text in [text for text in active if texts.emitted[text] >= scenario.tokens]:
            active.remove(text)
            policy.forget(text)
    return Course(scenario.texts * scenario.tokens, seconds, tuple(lookaheads), tuple(places))


def _noise(seed: int) -> Callable[[], float]:
    """A generator of random factors: measured time / expected time."""
    generator = np.random.default_rng(seed)

    def noise() -> float:
        held_up = HELD_UP if generator.random() < HICCUP else 1.0
        return held_up * float(np.exp(NOISE * generator.standard_normal()))

    return noise


def _bind(policy: LookaheadPolicy, scenario: Scenario, noise: Callable[[], float]) -> None:
    """Bind the policy as an engine does when it opens."""
    costs = policy.costs or CostCurve()
    if policy.wants_costs and policy.costs is None:
        session = _TimedSession(scenario, noise)
        costs = measure_costs(session, VOCABULARY, lambda: session.now)
    policy.bind(DraftingTraits(estimates=scenario.drafting.estimates), costs)


def _draft(
    scenario: Scenario, policy: LookaheadPolicy, texts: Texts, active: Sequence[int]
) -> tuple[list[int], list[Outcome]]:
    """Plan, draft and judge a round; the texts grow.

    Returns:
        the lookahead of each text, after the drafter looked at prices; and the outcomes.
    """
    asked, outcomes = [], []
    for text, budget in zip(active, policy.budgets(active), strict=True):
        planned = max(min(budget.nodes, scenario.tokens - texts.emitted[text] - 1), 0)
        estimates = [0.0]
        lookahead = planned
        if scenario.drafting.estimates:
            estimates = texts.estimates(text)[:planned].tolist()
            lookahead = budget.prices.worthwhile(estimates)
        drafted, accepted = texts.draft(text, lookahead)
        texts.emitted[text] += accepted + 1
        asked.append(lookahead)
        outcomes.append(Outcome(text, planned, drafted, accepted, expected=sum(estimates[:drafted])))
    return asked, outcomes


def _seconds(scenario: Scenario, outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """The seconds of drafting and of the target's pass in a round."""
    drafted = sum(each.drafted for each in outcomes)
    longest = max(each.drafted for each in outcomes)
    drafting = float(scenario.drafting.seconds(np.array(longest), np.array(drafted)))
    return drafting, scenario.seconds(len(outcomes), len(outcomes) + drafted)
