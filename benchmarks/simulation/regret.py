"""The regret of policies: how far they stay behind the oracle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.simulation.oracle import Oracle
from benchmarks.simulation.rounds import Course, simulate
from benchmarks.simulation.scenario import Scenario, Texts
from outrider.lookahead import Adaptive, Fixed, Goodput, LookaheadPolicy

FIXED = (0, 1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Regret:
    """The regret of every policy in one scenario.

    Attributes:
        oracle: the oracle's tokens per second.
        regrets: for each policy 1 - its tokens per second / the oracle's.
        courses: the first run of each policy and of the oracle.
    """

    scenario: str
    rows: int
    oracle: float
    regrets: Mapping[str, float]
    courses: Mapping[str, Course]


def policies() -> dict[str, Callable[[], LookaheadPolicy]]:
    """The policies to compare, by name."""
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
        seed: of the first run; each run has its own texts and noise.
        progress: called with (runs done, all runs).
        runs: how many runs the mean is taken over.
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
