"""Lookahead policies in simulated rounds: acceptance and costs are known there, and so is the best that could be done.

No model runs. Whether a draft token is accepted is drawn from chances that belong to the place in the text, and each
round takes the seconds that a known curve says. A policy sees what the engine would show it, times with noise included;
the oracle sees the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from outrider.engine.warmup import measure_costs
from outrider.lookahead import Adaptive, CostCurve, DraftingTraits, Fixed, Goodput, LookaheadPolicy, Outcome, Times
from outrider.maths.arrays import HostFloats, HostInts
from outrider.runtimes.base import Pass, Scored

LONGEST = 16  # lookahead that any policy may choose
NOISE = 0.05  # standard deviation of the logarithm of what a pass takes
HICCUP = 0.01  # the chance that something else holds a pass up
HELD_UP = 3.0  # times what it takes otherwise
FIXED = (0, 1, 2, 4, 8, 16)

Seconds = Callable[[int, int], float]  # (rows, tokens of all rows together) -> seconds of a pass
Chances = Callable[[np.random.Generator, int], HostFloats]  # how many places -> the chance of acceptance at each


@dataclass(frozen=True, slots=True)
class Drafting:
    """What drafting costs, in seconds, and how far the drafter goes by itself.

    Attributes:
        call: for a round in which anything is drafted.
        position: for each pass of a draft model, which drafts for all sequences at once.
        token: for each token of each draft.
        silence: the chance that the drafter finds nothing to propose.
        stop: the chance that it ends its draft, after each token.
        estimates: whether it knows the chances of its own tokens, and heeds prices.
        sound: the share of its drafts of which that is true; all others are wrong from the first token.
    """

    call: float = 0.0
    position: float = 0.0
    token: float = 0.0
    silence: float = 0.0
    stop: float = 0.0
    estimates: bool = False
    sound: float = 1.0

    def seconds(self, longest: HostFloats, tokens: HostFloats) -> HostFloats:
        """Of a round whose longest draft and all of whose drafts together have so many tokens."""
        return np.where(longest > 0, self.call, 0.0) + self.position * longest + self.token * tokens

    @property
    def reach(self) -> HostFloats:
        """[LONGEST]: the chance that the drafter, if it may, goes on to each position."""
        return np.asarray((1 - self.silence) * (1 - self.stop) ** np.arange(LONGEST))


@dataclass(frozen=True, slots=True)
class Scenario:
    """A machine, a drafter and texts.

    Attributes:
        seconds: of a pass of the target.
        overhead: seconds of a round besides passes and drafting.
        chances: of acceptance, by place in the text.
        rows: how many texts are decoded at once.
        texts, tokens: how many there are, and how long each becomes.
    """

    name: str
    seconds: Seconds
    chances: Chances
    drafting: Drafting = Drafting()
    overhead: float = 0.0005
    rows: int = 1
    texts: int = 16
    tokens: int = 512


@dataclass(frozen=True, slots=True)
class Course:
    """What a policy made of a scenario.

    Attributes:
        tokens, seconds: emitted, and the expected time that its rounds took.
        lookaheads: for the text in the first row, round by round, as planned, or as drafted by drafters that heed
            prices; and `places`, how many tokens it had.
    """

    tokens: int
    seconds: float
    lookaheads: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Regret:
    """How far policies stayed behind the oracle in one scenario.

    Attributes:
        oracle: its tokens per second.
        regrets: of each policy 1 - tokens per second / the oracle's.
        courses: of each policy and the oracle, in the first run.
    """

    scenario: str
    rows: int
    oracle: float
    regrets: Mapping[str, float]
    courses: Mapping[str, Course]


class Texts:
    """The texts of a scenario: what is true of them, and how far they have come. The same for every policy.

    Whether a draft token is accepted is settled by its place: a policy that comes by meets the luck of all others.
    """

    def __init__(self, scenario: Scenario, seed: int) -> None:
        generator = np.random.default_rng(seed)
        places = scenario.tokens + LONGEST
        self.emitted = [0] * scenario.texts
        self._chances = [scenario.chances(generator, places) for _ in range(scenario.texts)]
        self._passes = [generator.random(places) < chances for chances in self._chances]
        silent = generator.random((scenario.texts, places)) < scenario.drafting.silence
        stop = scenario.drafting.stop
        lengths: HostInts = generator.geometric(stop, silent.shape) if stop else np.full(silent.shape, LONGEST)
        self._lengths = np.where(silent, 0, lengths)
        self._share_sound = scenario.drafting.sound
        self._sound = generator.random(silent.shape) < self._share_sound

    def survival(self, text: int) -> HostFloats:
        """[LONGEST]: the chance that a draft made now is right up to each position."""
        return self._share_sound * self.estimates(text)

    def estimates(self, text: int) -> HostFloats:
        """The same, as a drafter sees it that believes in all of its drafts."""
        place = self.emitted[text]
        return np.asarray(np.cumprod(self._chances[text][place : place + LONGEST]))

    def draft(self, text: int, lookahead: int) -> tuple[int, int]:
        """How many tokens are drafted, and how many of these accepted."""
        place = self.emitted[text]
        drafted = min(lookahead, int(self._lengths[text][place]))
        if not self._sound[text, place]:
            return drafted, 0
        passed = self._passes[text][place : place + drafted]
        return drafted, int(passed.argmin()) if not passed.all() else drafted


class Oracle(LookaheadPolicy):
    """Knows costs and chances, and plans what maximises expected tokens over expected seconds of the coming round.

    For one row that is exact. For several it is where drafters do not stop by themselves: at a given longest draft and
    number of tokens, the likeliest tokens are the best ones.
    """

    def __init__(self, scenario: Scenario, texts: Texts) -> None:
        self._scenario = scenario
        self._texts = texts
        self._tables: dict[int, HostFloats] = {}

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        survival = np.stack([self._texts.survival(int(str(text))) for text in sequences])
        return self._of_one(survival[0]) if len(sequences) == 1 else self._of_many(survival)

    def _of_one(self, survival: HostFloats) -> list[int]:
        scenario = self._scenario
        reach = scenario.drafting.reach
        drafted = np.arange(LONGEST + 1.0)
        seconds = self._table(1)[1:] + scenario.drafting.seconds(drafted, drafted)
        # A lookahead of k drafts j < k tokens where the drafter stops there, and k where it would go on.
        more = np.concatenate([[0.0], np.cumsum(reach * np.diff(seconds))])
        tokens = 1 + np.concatenate([[0.0], np.cumsum(reach * survival)])
        return [int(np.argmax(tokens / (seconds[0] + more + scenario.overhead)))]

    def _of_many(self, survival: HostFloats) -> list[int]:
        scenario = self._scenario
        rows = len(survival)
        best, lookaheads = rows / (self._table(rows)[rows] + scenario.overhead), [0] * rows
        for longest in range(1, LONGEST + 1):
            gains = survival[:, :longest].T.ravel()
            order = np.argsort(-gains, kind="stable")
            drafted = np.arange(1.0, len(order) + 1)
            depths = np.maximum.accumulate(order // rows) + 1.0
            seconds = self._table(rows)[rows + 1 : rows + 1 + len(order)] + scenario.drafting.seconds(depths, drafted)
            rates = (rows + np.cumsum(gains[order])) / (seconds + scenario.overhead)
            top = int(np.argmax(rates))
            if rates[top] > best:
                best, lookaheads = float(rates[top]), np.bincount(order[: top + 1] % rows, minlength=rows).tolist()
        return lookaheads

    def _table(self, rows: int) -> HostFloats:
        if rows not in self._tables:
            tokens = range(rows * (1 + LONGEST) + 1)
            self._tables[rows] = np.array([self._scenario.seconds(rows, max(count, rows)) for count in tokens])
        return self._tables[rows]


class _TimedSession:
    """A session whose passes take simulated seconds, for the measurement that an engine makes when it opens."""

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

    def release(self, row: int) -> None: ...


def simulate(scenario: Scenario, policy: LookaheadPolicy, texts: Texts, seed: int = 0) -> Course:
    """Decode all texts of a scenario, `rows` at a time, as the engine would with this policy."""
    generator = np.random.default_rng(seed)

    def noise() -> float:
        held_up = HELD_UP if generator.random() < HICCUP else 1.0
        return held_up * float(np.exp(NOISE * generator.standard_normal()))

    costs = policy.costs or CostCurve()
    if policy.wants_costs and policy.costs is None:
        session = _TimedSession(scenario, noise)
        costs = measure_costs(session, 1000, lambda: session.now)
    policy.bind(DraftingTraits(estimates=scenario.drafting.estimates), costs)
    waiting = list(range(scenario.texts))[::-1]
    active: list[int] = []
    seconds = 0.0
    lookaheads, places = [], []
    while waiting or active:
        while waiting and len(active) < scenario.rows:
            active.append(waiting.pop())
        room = [scenario.tokens - texts.emitted[text] for text in active]
        budgets = policy.budgets(active)
        planned = [max(min(budget.nodes, left - 1), 0) for budget, left in zip(budgets, room, strict=True)]
        wanted, estimates = planned, [[0.0]] * len(active)
        if scenario.drafting.estimates:
            estimates = [texts.estimates(text)[:most].tolist() for text, most in zip(active, planned, strict=True)]
            wanted = [budget.prices.worthwhile(each) for budget, each in zip(budgets, estimates, strict=True)]
        if active[0] == 0:
            lookaheads.append(wanted[0])
            places.append(texts.emitted[0])
        drafts = [texts.draft(text, lookahead) for text, lookahead in zip(active, wanted, strict=True)]
        drafted = sum(count for count, _ in drafts)
        tokens = len(active) + drafted
        verification = scenario.seconds(len(active), tokens)
        longest = np.array(max(count for count, _ in drafts))
        drafting = float(scenario.drafting.seconds(longest, np.array(drafted)))
        seconds += drafting + verification + scenario.overhead
        for text, (_, accepted) in zip(active, drafts, strict=True):
            texts.emitted[text] += accepted + 1
        measured = verification * noise()
        if policy.costs is not None:
            policy.costs.observe(len(active), tokens, measured)
        expected = [sum(each[:count]) for each, (count, _) in zip(estimates, drafts, strict=True)]
        outcomes = [
            Outcome(text, most, count, accepted, expected=hoped)
            for text, most, (count, accepted), hoped in zip(active, planned, drafts, expected, strict=True)
        ]
        policy.observe(outcomes, Times(drafting * noise(), measured, scenario.overhead * noise()))
        for text in [text for text in active if texts.emitted[text] >= scenario.tokens]:
            active.remove(text)
            policy.forget(text)
    return Course(scenario.texts * scenario.tokens, seconds, tuple(lookaheads), tuple(places))


def policies() -> dict[str, Callable[[], LookaheadPolicy]]:
    """What is compared, by name."""
    fixed: dict[str, Callable[[], LookaheadPolicy]] = {f"always {k}": partial(Fixed, k) for k in FIXED}
    return fixed | {"Adaptive": Adaptive, "Goodput": Goodput}


def measure_regret(
    scenarios: Sequence[Scenario],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    runs: int = 1,
) -> list[Regret]:
    """Every policy in every scenario, beside the oracle.

    Args:
        seed: of the first run; each run draws texts and noise of its own.
        progress: told (scenarios run, how many there are to run).
        runs: over which tokens per second are averaged.
    """
    found = []
    for number, scenario in enumerate(scenarios):
        by_run = []
        for run in range(runs):
            texts = Texts(scenario, seed + run)
            courses = {"oracle": simulate(scenario, Oracle(scenario, texts), texts, seed + run)}
            for name, make in policies().items():
                courses[name] = simulate(scenario, make(), Texts(scenario, seed + run), seed + run)
            by_run.append(courses)
            if progress is not None:
                progress(runs * number + run + 1, runs * len(scenarios))
        speeds = {
            name: sum(courses[name].tokens_per_second for courses in by_run) / runs for name in ("oracle", *policies())
        }
        best = speeds.pop("oracle")
        regrets = {name: 1 - speed / best for name, speed in speeds.items()}
        found.append(Regret(scenario.name, scenario.rows, best, regrets, by_run[0]))
    return found
