"""What an earlier text of the same seed taught drafter or policy changes no distribution."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import count, islice

import pytest

from exactness import mutations
from exactness.simulated_time import Clock, TimedModel, steady
from exactness.statistics import THRESHOLD, Outcome, joint_distribution, p_of_stages
from outrider import (
    Adaptive,
    Drafter,
    Engine,
    Goodput,
    LookaheadPolicy,
    LookupDrafter,
    Merged,
    ModelDrafter,
    Request,
    SamplingParams,
    SuffixDrafter,
    SuffixSource,
    TableModel,
)
from outrider.lookahead.fixed import Fixed
from outrider.maths.lessons import Lessons
from outrider.maths.rules import RuleName

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

TARGET = TableModel.random(4, 1, spread=0.8, seed=51)
PROMPT = (3, 1, 2, 3, 1)
MOST = 4  # tokens of a text
DRAWS = 1_200
SAMPLING = SamplingParams(temperature=0.9)

Maker = tuple[Callable[[], Drafter], Callable[[], LookaheadPolicy]]
# A first text of which a draft is rejected makes these draft less in the next one, or not at all.
LEARNERS: dict[str, Maker] = {
    "calibration": (lambda: LookupDrafter([SuffixSource()], trees=False, min_chance=0.5), lambda: Fixed(1)),
    "prices": (lambda: SuffixDrafter(), lambda: Goodput(3)),
    "both": (lambda: LookupDrafter([SuffixSource()], trees=False), lambda: Goodput(3)),
    "tree": (lambda: LookupDrafter([SuffixSource()]), lambda: Goodput(3)),
}
# Which text of a seed is looked at, and how many of its tokens: those that show the mistake.
CASES: list[tuple[RuleName, str, int, int]] = [
    ("token", "calibration", 2, 1),
    ("token", "prices", 3, 2),
    ("token", "both", 2, 1),
    ("token", "tree", 2, 1),
    ("block", "calibration", 2, 1),
    ("block", "both", 2, 1),
]


class Lasts:
    """Of many seeds the last of some texts with one prompt and that seed, decoded by an engine of its own."""

    def __init__(self, rule: RuleName, learner: str, texts: int, length: int) -> None:
        self._rule, self._texts, self._length = rule, texts, length
        self._drafter, self._policy = LEARNERS[learner]
        self._seeds = count()
        self._counts: Counter[Outcome] = Counter()

    def p_value(self, *looks: float) -> float:
        """Drawn in stages.

        Args:
            looks: shares of the draws after which a mistake may be called as well.
        """
        return p_of_stages(self._first, joint_distribution(TARGET, PROMPT, self._length, SAMPLING), DRAWS, looks)

    def _first(self, draws: int) -> Counter[Outcome]:
        for seed in islice(self._seeds, draws - self._counts.total()):
            clock = Clock()
            target = TimedModel(TARGET, clock, steady(1, 0.6))
            engine = Engine(
                target, self._drafter(), lookahead=self._policy(), rule=self._rule, max_rows=1, capacity=16, clock=clock
            )
            for _ in range(self._texts):
                tokens = decoded(engine, seed)
            self._counts[tuple(tokens[: self._length])] += 1
        return self._counts


def decoded(engine: Engine, seed: int) -> list[int]:
    handle = engine.submit(Request(PROMPT, MOST, replace(SAMPLING, seed=seed), detokenize=False))
    while not engine.idle:
        engine.step()
    assert handle.error is None
    return handle.tokens


@pytest.mark.parametrize("rule, learner, texts, length", CASES)
def test_a_later_text_of_a_seed_has_the_targets_distribution(
    rule: RuleName, learner: str, texts: int, length: int
) -> None:
    assert Lasts(rule, learner, texts, length).p_value() > THRESHOLD


@pytest.mark.parametrize("rule, learner, texts, length", CASES)
def test_with_noise_that_leaves_the_lessons_out_of_its_key_it_has_not(
    rule: RuleName, learner: str, texts: int, length: int
) -> None:
    with mutations.lessons_left_out_of_the_key():
        assert Lasts(rule, learner, texts, length).p_value(1 / 4, 1 / 3, 1 / 2) < THRESHOLD


def engine_of(drafter: Drafter | None, policy: LookaheadPolicy, rule: RuleName = "token") -> Engine:
    return Engine(TARGET, drafter, lookahead=policy, rule=rule, max_rows=1, capacity=40)


SEEDS = range(20)


@pytest.mark.parametrize("policy", [lambda: Fixed(3), Adaptive], ids=["fixed", "adaptive"])
@pytest.mark.parametrize("drafter", [SuffixDrafter, lambda: ModelDrafter(TARGET), lambda: None])
def test_where_nothing_is_learned_for_other_texts_a_seed_gives_its_text_again(
    drafter: Callable[[], Drafter | None], policy: Callable[[], LookaheadPolicy]
) -> None:
    engine = engine_of(drafter(), policy())
    assert [decoded(engine, seed) for seed in SEEDS] == [decoded(engine, seed) for seed in SEEDS]


def test_so_it_does_under_coupled_and_without_a_drafter_whatever_is_learned() -> None:
    for engine in (engine_of(Merged([SuffixDrafter()]), Goodput(), "coupled"), engine_of(None, Goodput())):
        assert [decoded(engine, seed) for seed in SEEDS] == [decoded(engine, seed) for seed in SEEDS]


def test_what_texts_of_other_seeds_taught_gives_a_text_no_other_noise() -> None:
    lessons = Lessons()
    lessons.add(7)
    assert lessons.total(7)
    assert not lessons.total(8)


def test_what_a_text_taught_can_be_taken_out_of_what_its_seed_taught() -> None:
    lessons = Lessons()
    own = lessons.add(7)
    other = lessons.add(7)
    assert (lessons.total(7) - own) % 2**64 == other
    assert own != other
