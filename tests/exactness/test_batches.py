"""Several texts in one engine: of different kinds and lengths, begun, ended and cancelled at different times."""

import statistics
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import pytest

from exactness.drafters import TreeDrafter, lookups, memory_of, similar, suffix_drafter
from exactness.policies import Sometimes
from exactness.simulated_time import Clock, Price, TimedModel, changing, steady
from exactness.statistics import THRESHOLD, Outcome
from exactness.traffic import Kind, serve, serve_in_stages
from outrider import (
    Adaptive,
    AdaptiveSpeculator,
    Budget,
    Draft,
    DraftedSequence,
    Drafter,
    DynamicTree,
    Engine,
    Fixed,
    Goodput,
    LookaheadPolicy,
    Merged,
    ModelDrafter,
    ModelTreeDrafter,
    RoundRecord,
    SamplingParams,
    SpeculativeDecoder,
    StaticTree,
    TableModel,
)
from outrider.engine import feeds as feeds_module
from outrider.engine import scheduler as scheduler_module

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 600
DRAWS_COMPARED = 150  # one by one
LENGTH = 3
ROWS = 5
PLAIN = (Kind((1,)), Kind((0, 2, 1, 1, 3, 0, 2, 1, 1)), Kind((2, 2, 0, 2), stop_token_ids=frozenset({3})))
MIXED = (
    Kind((1, 3)),
    Kind((0, 2, 1, 1, 3, 0, 2, 1, 1), SamplingParams(temperature=0.7, top_p=0.9)),
    Kind((2, 2, 0, 2), SamplingParams(repetition_penalty=1.5, top_k=3), frozenset({3})),
)

CHEAP_DRAFTS = steady(0.02, 0.0)
DEAR_DRAFTS = steady(2.0, 0.0)
TARGET_PASSES = steady(1.0, 0.02)
# Where padding costs so much, rows of unequal work go in passes of their own.
PADDED_PASSES = steady(0.2, 0.4)


class TimedTreeDrafter(TreeDrafter):
    model: TimedModel

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        longest = max(budget.longest for budget in budgets)
        levels = 2 if longest > 2 else 1 if longest else 0
        for _ in range(levels):
            self.model.pay(len(sequences), 1)
        return super().propose(sequences, budgets)


@dataclass(frozen=True)
class Course:
    """What serves the requests.

    Attributes:
        drafts_cost: of a pass of the draft model, in simulated seconds.
        engines: how many serve a part of the requests, one after the other, so that policies begin anew.
    """

    rule: str
    drafter: str
    policy: Callable[[Counter[str]], LookaheadPolicy]
    kinds: tuple[Kind, ...] = PLAIN
    drafts_cost: Price = CHEAP_DRAFTS
    passes_cost: Price = TARGET_PASSES
    pads_rows: bool = False
    engines: int = 1


def adaptive(chosen: Counter[str]) -> Adaptive:
    return Adaptive(AdaptiveSpeculator(2, min_lookahead=0, max_lookahead=4, patience=1))


class WatchedGoodput(Goodput):
    """Counts what it chose."""

    def __init__(self, chosen: Counter[str]) -> None:
        super().__init__(max_lookahead=4)
        self.chosen = chosen

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        lookaheads = super().plan(sequences)
        for sequence, lookahead in zip(sequences, lookaheads, strict=True):
            probing = self.explores(sequence)
            self.chosen["probing" if probing else "drafting" if lookahead else "plain"] += 1
        return lookaheads


COURSES = {
    "token-model-goodput": Course(
        "token", "model", WatchedGoodput, MIXED, changing(DEAR_DRAFTS, CHEAP_DRAFTS, 40.0), engines=12
    ),
    "token-stopping-sometimes": Course("token", "stopping", lambda chosen: Sometimes()),
    "token-stopping-padded": Course(
        "token", "stopping", lambda chosen: Fixed(4), MIXED, passes_cost=PADDED_PASSES, pads_rows=True
    ),
    "token-suffix-adaptive": Course("token", "suffix", adaptive),
    "token-greedy-suffix-fixed": Course("token", "greedy-suffix", lambda chosen: Fixed(3), MIXED),
    "block-model-adaptive": Course("block", "model", adaptive, MIXED),
    "block-stopping-goodput": Course(
        "block", "stopping", WatchedGoodput, PLAIN, changing(DEAR_DRAFTS, CHEAP_DRAFTS, 40.0), engines=12
    ),
    "block-suffix-sometimes": Course("block", "suffix", lambda chosen: Sometimes(), MIXED),
    "coupled-model-goodput": Course(
        "coupled", "model", WatchedGoodput, PLAIN, changing(DEAR_DRAFTS, CHEAP_DRAFTS, 40.0), engines=12
    ),
    "coupled-stopping-adaptive": Course("coupled", "stopping", adaptive, MIXED),
    "token-tree-fixed": Course("token", "tree", lambda chosen: Fixed(5)),
    "token-tree-goodput": Course(
        "token", "tree", WatchedGoodput, MIXED, changing(DEAR_DRAFTS, CHEAP_DRAFTS, 40.0), engines=12
    ),
    "coupled-tree-sometimes": Course("coupled", "tree", lambda chosen: Sometimes(), MIXED),
    "token-model-tree-goodput": Course(
        "token",
        "model-tree",
        lambda chosen: Goodput(max_lookahead=6),
        MIXED,
        changing(DEAR_DRAFTS, CHEAP_DRAFTS, 40.0),
        engines=12,
    ),
    "token-merged-fixed": Course("token", "merged", lambda chosen: Fixed(6)),
    "token-lookups-sometimes": Course("token", "lookups", lambda chosen: Sometimes(), MIXED),
    "block-lookups-fixed": Course("block", "lookup-chains", lambda chosen: Fixed(3)),
}


def target_and_drafter(course: Course, number: int, clock: Clock) -> tuple[TimedModel, Drafter]:
    table = TableModel.random(4, 2, spread=1.2, seed=number)
    target = TimedModel(table, clock, course.passes_cost, pads_rows=course.pads_rows)
    draft = TimedModel(similar(table, seed=1000 + number), clock, course.drafts_cost)
    drafters: dict[str, Callable[[], Drafter]] = {
        "model": lambda: ModelDrafter(draft),
        "stopping": lambda: ModelDrafter(draft, min_survival=0.3),
        "suffix": lambda: suffix_drafter(greedy=False),
        "greedy-suffix": lambda: suffix_drafter(greedy=True),
        "tree": lambda: TimedTreeDrafter(draft, 2),
        "model-tree": lambda: ModelTreeDrafter(draft, DynamicTree(3, 3)),
        "lookups": lambda: lookups(memory_of(table)),
        "lookup-chains": lambda: lookups(trees=False),
        "merged": lambda: Merged(
            [suffix_drafter(greedy=False), ModelTreeDrafter(draft, StaticTree((2, 2)))], clock=clock
        ),
    }
    return target, drafters[course.drafter]()


@pytest.mark.parametrize("name", COURSES)
def test_every_text_has_its_own_distribution(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Prompts are read in pieces of a few tokens, beside rows that decode.
    monkeypatch.setattr(feeds_module, "READING_BESIDE_OTHERS", 3)
    monkeypatch.setattr(feeds_module, "READING_ALONE", 5)
    monkeypatch.setattr(scheduler_module, "SMALLEST_SHARE", 2)
    course = COURSES[name]
    clock = Clock()
    target, drafter = target_and_drafter(course, list(COURSES).index(name), clock)
    records: list[RoundRecord] = []
    chosen: Counter[str] = Counter()

    def open_engine() -> Engine:
        return Engine(
            target,
            drafter,
            lookahead=course.policy(chosen),
            rule=course.rule,
            max_rows=ROWS,
            capacity=24,
            max_waiting=2,
            observer=records.append,
            clock=clock,
        )

    if course.rule == "coupled" or course.engines > 1:  # such a policy takes time for all that it does
        draws = DRAWS_COMPARED if course.rule == "coupled" else DRAWS
        outputs = serve(open_engine, course.kinds, LENGTH, draws, engines=course.engines)
    else:
        outputs = serve_in_stages(open_engine(), course.kinds, LENGTH, DRAWS, target)
    check_that_much_happened(course, records)
    if chosen:
        assert all(chosen[what] >= 10 for what in ("drafting", "plain", "probing"))
    assert [len(of_kind) for of_kind in outputs.of_kind] == [len(outputs.of_kind[0])] * len(course.kinds)
    if course.rule == "coupled":  # then a text is that of plain decoding, in any company
        assert outputs.of_kind == [
            alone(target, kind, outputs.seeds[number]) for number, kind in enumerate(course.kinds)
        ]
        return
    assert outputs.smallest_p_value(target) > THRESHOLD


def alone(target: TableModel, kind: Kind, seeds: Sequence[int]) -> list[Outcome]:
    """What plain decoding makes of each seed."""
    decoder, stops = SpeculativeDecoder(None, target, rule="coupled"), kind.stop_token_ids
    samplings = (replace(kind.sampling, seed=seed) for seed in seeds)
    texts = (
        decoder.generate(kind.prompt, max_tokens=LENGTH, sampling=each, stop_token_ids=stops) for each in samplings
    )
    return [tuple(text.tokens) for text in texts]


def check_that_much_happened(course: Course, records: list[RoundRecord]) -> None:
    """The test would pass as well if nothing of interest ever happened."""
    parts = [part for record in records for part in record.sequences]
    assert statistics.mean(len(record.sequences) for record in records) > ROWS / 2
    reading_beside_decoding = [
        record
        for record in records
        if any(not part.tokens for part in record.sequences) and any(part.drafted for part in record.sequences)
    ]
    assert len(reading_beside_decoding) > len(records) / 20
    assert any(part.accepted for part in parts)
    assert (sum(record.passes for record in records) > 1.2 * len(records)) == course.pads_rows
