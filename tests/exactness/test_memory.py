"""A memory of earlier texts changes no distribution, not even where it holds a text made with the same seed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactness import mutations
from exactness.drafters import similar
from exactness.statistics import THRESHOLD, Outcome, joint_distribution, p_value
from outrider import (
    Chained,
    Drafter,
    LookupDrafter,
    MemorySource,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    RecyclingDrafter,
    RecyclingSource,
    SamplingParams,
    SpeculativeDecoder,
    StaticTree,
    SuffixDrafter,
    SuffixMemory,
    SuffixSource,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.maths.rules import RuleName

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

TARGET = TableModel.random(4, 1, spread=0.8, seed=51)
PROMPT = (3, 1, 2, 3, 1)
LENGTH = 2
LOOKAHEAD = 3
DRAWS = 1_500

Maker = Callable[[SuffixMemory], Drafter]
CHAINS: dict[str, Maker] = {
    "chosen": lambda memory: SuffixDrafter(memory=memory, min_survival=0),
    "drawn": lambda memory: SuffixDrafter(greedy=False, memory=memory, min_survival=0),
    "lookup": lambda memory: LookupDrafter(
        [SuffixSource(), MemorySource(memory), RecyclingSource()], trees=False, min_chance=0
    ),
    "recycling": lambda memory: RecyclingDrafter(trees=False, min_chance=0),
    "chained": lambda memory: Chained([SuffixDrafter(memory=memory), ModelDrafter(similar(TARGET, 1))]),
}
TREES: dict[str, Maker] = {
    "tree-chosen": lambda memory: SuffixTreeDrafter(memory=memory, min_survival=0),
    "tree-drawn": lambda memory: SuffixTreeDrafter(greedy=False, memory=memory, min_survival=0),
    "lookup-tree": lambda memory: LookupDrafter(
        [SuffixSource(), MemorySource(memory), RecyclingSource()], min_chance=0
    ),
    "recycling-tree": lambda memory: RecyclingDrafter(min_chance=0),
    "merged": lambda memory: Merged(
        [SuffixTreeDrafter(memory=memory, min_survival=0), ModelTreeDrafter(similar(TARGET, 1), StaticTree((1,)))],
        rests=False,
    ),
}
DRAFTERS = CHAINS | TREES
CASES: list[tuple[RuleName, str]] = [
    *(("token", drafter) for drafter in DRAFTERS),
    *(("block", drafter) for drafter in CHAINS),
]

# Recycled successors of so few tokens are much the same whoever taught them: no mistake shows in so few draws.
TELLING = [(rule, drafter) for rule, drafter in CASES if not drafter.startswith("recycling")]


def last_of(texts: int, make: Maker, rule: RuleName, sampling: SamplingParams) -> Outcome:
    """The last of some texts with one prompt and one seed, each of which remembers those before it."""
    decoder = SpeculativeDecoder(make(SuffixMemory(prompts=True)), TARGET, LOOKAHEAD, rule=rule)
    made: Sequence[int] = ()
    for _ in range(texts):
        made = decoder.generate(PROMPT, max_tokens=LENGTH + 2, sampling=sampling, detokenize=False).tokens
    return tuple(made[:LENGTH])


def p_of_last(texts: int, make: Maker, rule: RuleName, draws: int = DRAWS) -> float:
    """Over many seeds."""
    sampling = SamplingParams(temperature=0.9)
    counts = Counter(last_of(texts, make, rule, replace(sampling, seed=seed)) for seed in range(draws))
    return p_value(counts, joint_distribution(TARGET, PROMPT, LENGTH, sampling))


@pytest.mark.parametrize("rule, drafter", CASES)
def test_a_text_that_remembers_one_of_the_same_seed_has_the_targets_distribution(rule: RuleName, drafter: str) -> None:
    assert p_of_last(2, DRAFTERS[drafter], rule) > THRESHOLD


def test_so_has_one_that_remembers_two() -> None:
    assert p_of_last(3, DRAFTERS["drawn"], "token") > THRESHOLD


@pytest.mark.parametrize("rule, drafter", TELLING)
def test_with_noise_that_leaves_the_memory_out_of_its_key_it_has_not(rule: RuleName, drafter: str) -> None:
    with mutations.experience_left_out_of_the_key():
        # Most are found among the first draws.
        assert any(p_of_last(2, DRAFTERS[drafter], rule, draws) < THRESHOLD for draws in (DRAWS // 3, DRAWS))


@pytest.mark.parametrize("drafter", DRAFTERS)
@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=10), max_size=5), st.integers(0, 2**64 - 1))
def test_under_coupled_a_seed_gives_one_text_with_any_memory(drafter: str, held: list[list[int]], seed: int) -> None:
    sampling = SamplingParams(seed=seed)
    plain = SpeculativeDecoder(None, TARGET, rule="coupled").generate(PROMPT, max_tokens=10, sampling=sampling).tokens
    decoder = SpeculativeDecoder(DRAFTERS[drafter](SuffixMemory.of(held)), TARGET, LOOKAHEAD, rule="coupled")
    for _ in range(2):
        assert decoder.generate(PROMPT, max_tokens=10, sampling=sampling).tokens == plain
