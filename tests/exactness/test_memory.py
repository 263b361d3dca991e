"""A memory of earlier texts changes no distribution, not even where it holds a text made with the same seed."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count, islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exactness import mutations
from exactness.drafters import similar
from exactness.statistics import THRESHOLD, Outcome, joint_distribution, p_of_stages
from outrider import (
    Budget,
    Chained,
    Draft,
    DraftedSequence,
    Drafter,
    Engine,
    Handle,
    LookupDrafter,
    MemorySource,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    Reading,
    RecyclingDrafter,
    RecyclingSource,
    Request,
    SamplingParams,
    SpeculativeDecoder,
    StaticTree,
    SuffixDrafter,
    SuffixMemory,
    SuffixSource,
    SuffixTreeDrafter,
    TableModel,
)
from outrider.maths.draft import Verdict
from outrider.maths.rules import RuleName

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

TARGET = TableModel.random(4, 1, spread=0.8, seed=51)
PROMPT = (3, 1, 2, 3, 1)
LENGTH = 2
LOOKAHEAD = 3
DRAWS = 1_500
SAMPLING = SamplingParams(temperature=0.9)
ROWS, CAPACITY = 32, 16

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


class Apart(Drafter):
    """A drafter, and so a memory, of its own for each seed: texts side by side in one engine share nothing."""

    name = "apart"

    def __init__(self, make: Maker) -> None:
        self._make = lambda: make(SuffixMemory(prompts=True))
        one = self._make()
        self.trees, self.estimates, self.wants = one.trees, one.estimates, one.wants
        self._of_seed: dict[int | None, Drafter] = {}

    def prepare(self, rows: int, capacity: int, vocab_size: int) -> None:
        self._room = rows, capacity, vocab_size

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        return [self._of(each).propose([each], [budget])[0] for each, budget in zip(sequences, budgets, strict=True)]

    def read(self, sequences: Sequence[DraftedSequence], readings: Sequence[Reading]) -> None:
        for sequence, reading in zip(sequences, readings, strict=True):
            self._of(sequence).read([sequence], [reading])

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        self._of(sequence).observe(sequence, draft, verdict)

    def forget(self, sequence: DraftedSequence) -> None:
        self._of(sequence).forget(sequence)

    def end(self, seed: int) -> None:
        """No text of this seed follows."""
        del self._of_seed[seed]

    def _of(self, sequence: DraftedSequence) -> Drafter:
        seed = sequence.sampling.seed
        if seed not in self._of_seed:
            self._of_seed[seed] = self._make()
            self._of_seed[seed].prepare(*self._room)
        return self._of_seed[seed]


class Lasts:
    """Of many seeds the last of some texts with one prompt and that seed, each of which remembers those before it."""

    def __init__(self, texts: int, make: Maker, rule: RuleName) -> None:
        self._texts = texts
        self._drafter = Apart(make)
        self._engine = Engine(TARGET, self._drafter, lookahead=LOOKAHEAD, rule=rule, max_rows=ROWS, capacity=CAPACITY)
        self._seeds = count()
        self._counts: Counter[Outcome] = Counter()

    def p_value(self, *looks: float) -> float:
        """Drawn in stages.

        Args:
            looks: shares of the draws after which a mistake may be called as well.
        """
        return p_of_stages(self._first, joint_distribution(TARGET, PROMPT, LENGTH, SAMPLING), DRAWS, looks)

    def _first(self, draws: int) -> Counter[Outcome]:
        while (missing := draws - self._counts.total()) > 0:
            seeds = list(islice(self._seeds, min(ROWS, missing)))
            for _ in range(self._texts):
                made = self._decode(seeds)
            self._counts.update(tuple(handle.tokens[:LENGTH]) for handle in made)
            for seed in seeds:
                self._drafter.end(seed)
        return self._counts

    def _decode(self, seeds: Sequence[int]) -> list[Handle]:
        samplings = [replace(SAMPLING, seed=seed) for seed in seeds]
        made = [self._engine.submit(Request(PROMPT, LENGTH + 2, each, detokenize=False)) for each in samplings]
        while not self._engine.idle:
            self._engine.step()
        assert [handle.error for handle in made] == [None] * len(made)
        return made


@pytest.mark.parametrize("rule, drafter", CASES)
def test_a_text_that_remembers_one_of_the_same_seed_has_the_targets_distribution(rule: RuleName, drafter: str) -> None:
    assert Lasts(2, DRAFTERS[drafter], rule).p_value() > THRESHOLD


def test_so_has_one_that_remembers_two() -> None:
    assert Lasts(3, DRAFTERS["drawn"], "token").p_value() > THRESHOLD


def hesitant(memory: SuffixMemory) -> Drafter:
    """Proposes nothing where two earlier texts disagree."""
    return LookupDrafter([MemorySource(memory)], trees=False, min_chance=0.55)


def test_that_nothing_is_proposed_tells_of_earlier_texts_too() -> None:
    assert Lasts(3, hesitant, "token").p_value() > THRESHOLD


def test_with_noise_of_empty_drafts_that_leaves_the_memory_out_of_its_key_it_is_found() -> None:
    with mutations.empty_drafts_without_experience(), mutations.lessons_left_out_of_the_key():
        assert Lasts(3, hesitant, "token").p_value(1 / 3, 1 / 2) < THRESHOLD


@pytest.mark.parametrize("rule, drafter", TELLING)
def test_with_noise_that_leaves_the_memory_out_of_its_key_it_has_not(rule: RuleName, drafter: str) -> None:
    with mutations.experience_left_out_of_the_key():
        assert Lasts(2, DRAFTERS[drafter], rule).p_value(1 / 6, 1 / 4, 1 / 3, 1 / 2) < THRESHOLD


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=10), max_size=5), st.integers(0, 2**64 - 1))
def test_under_coupled_a_seed_gives_one_text_with_any_memory(held: list[list[int]], seed: int) -> None:
    sampling = SamplingParams(seed=seed)
    plain = SpeculativeDecoder(None, TARGET, rule="coupled").generate(PROMPT, max_tokens=10, sampling=sampling).tokens
    for name, make in DRAFTERS.items():
        decoder = SpeculativeDecoder(make(SuffixMemory.of(held)), TARGET, LOOKAHEAD, rule="coupled")
        for _ in range(2):
            assert decoder.generate(PROMPT, max_tokens=10, sampling=sampling).tokens == plain, name
