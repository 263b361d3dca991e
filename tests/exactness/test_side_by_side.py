"""Texts with drafters and rules of their own share the rounds of one engine, and each has its own distribution."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from unittest.mock import patch

import pytest

from exactness.drafters import lookups, memory_of, similar, suffix_drafter
from exactness.statistics import THRESHOLD
from exactness.traffic import Kind, Outputs, serve
from outrider import (
    Drafter,
    DynamicTree,
    Engine,
    Fixed,
    ModelDrafter,
    ModelTreeDrafter,
    Request,
    RoundRecord,
    SamplingParams,
    TableModel,
)
from outrider.engine import round as round_module
from outrider.engine.sequence import ActiveSequence

pytestmark = pytest.mark.slow

DRAWS = 200
DRAWS_COMPARED = 30  # one by one
LONGER = 10  # tokens of those
LOOKAHEAD = 4
LENGTH = 3
TARGET = TableModel.random(4, 2, spread=1.2, seed=77)
DRAFT = similar(TARGET, seed=78)
KINDS = (
    Kind((1, 3)),  # of the engine's own tree drafter and rule
    Kind((0, 2, 1, 1, 3, 0), SamplingParams(temperature=0.7, top_p=0.9), drafter="model", rule="block"),
    Kind((2, 2, 0, 2), stop_token_ids=frozenset({3}), drafter="model", rule="token"),
    Kind((3, 0, 3), SamplingParams(repetition_penalty=1.5, top_k=3), drafter="suffix", rule="block"),
    Kind((0, 1, 2, 0, 1), drafter="lookups"),
    Kind((1, 3), SamplingParams(top_k=3), rule="coupled"),
    Kind((2, 0, 1), drafter="model", rule="coupled"),
    Kind((3, 1), SamplingParams(temperature=1.3), drafter="stopping", rule="block"),
)


LEARNING = KINDS[4]  # what its texts are drafted from depends on the texts before them


def drafter_of(name: str | None) -> Drafter:
    """The drafter of this name; None is the engine's own."""
    if name is None:
        trees = ModelTreeDrafter(DRAFT, DynamicTree(3, 3))
        trees.name = "trees"
        return trees
    made: dict[str, Callable[[], Drafter]] = {
        "model": lambda: ModelDrafter(DRAFT),
        "stopping": lambda: ModelDrafter(DRAFT, min_survival=0.3),
        "suffix": lambda: suffix_drafter(greedy=False),
        "lookups": lambda: lookups(memory_of(TARGET)),
    }
    return made[name]()


def opened(drafter: Drafter, rule: str = "token", **settings) -> Engine:
    return Engine(TARGET, drafter, lookahead=Fixed(LOOKAHEAD), rule=rule, max_rows=6, capacity=24, **settings)


def named(kinds: Sequence[Kind]) -> dict[str, Drafter]:
    return {kind.drafter: drafter_of(kind.drafter) for kind in kinds if kind.drafter is not None}


def outputs_of(kinds: Sequence[Kind], draws: int, records: list[RoundRecord]) -> Outputs:
    """Texts of all kinds in one engine."""

    def open_engine() -> Engine:
        return opened(drafter_of(None), drafters=named(kinds), max_waiting=2, observer=records.append)

    return serve(open_engine, kinds, LENGTH, draws)


def texts_of(engine: Engine, requests: Sequence[Request]) -> list[list[int]]:
    handles = [engine.submit(request) for request in requests]
    while not engine.idle:
        engine.step()
    return [handle.tokens for handle in handles]


def are_those_of_engines_of_their_own(kinds: Sequence[Kind]) -> bool:
    """Whether texts of all kinds, decoded together, are those of engines with the drafter and the rule of one kind."""
    requests = [
        Request(kind.prompt, LONGER, replace(kind.sampling, seed=seed), drafter=kind.drafter, rule=kind.rule)
        for seed in range(DRAWS_COMPARED)
        for kind in kinds
    ]
    together = texts_of(opened(drafter_of(None), drafters=named(kinds)), requests)
    for number, kind in enumerate(kinds):
        its = [replace(request, drafter=None, rule=None) for request in requests[number :: len(kinds)]]
        if together[number :: len(kinds)] != texts_of(opened(drafter_of(kind.drafter), kind.rule or "token"), its):
            return False
    return True


def test_every_text_has_its_own_distribution() -> None:
    records: list[RoundRecord] = []
    outputs = outputs_of(KINDS, DRAWS, records)
    assert outputs.smallest_p_value(TARGET) > THRESHOLD
    sources = [{part.source for part in record.sequences if part.drafted} for record in records]
    assert sum(len(each) > 1 for each in sources) > len(records) / 4  # drafters share rounds
    assert set().union(*sources) >= {"trees", "model", "suffix"}


def test_every_text_is_that_of_an_engine_with_its_drafter_and_its_rule() -> None:
    assert are_those_of_engines_of_their_own([kind for kind in KINDS if kind is not LEARNING])


@contextmanager
def all_rows_judged_by_the_first_ones_rule() -> Iterator[None]:
    original = round_module.begin_judging

    def changed(drafts, logits, sequences, rules, *others):
        return original(drafts, logits, sequences, rules[:1] * len(rules), *others)

    with patch.object(round_module, "begin_judging", changed):
        yield


@contextmanager
def all_rows_take_their_noise_for_the_same_rule() -> Iterator[None]:
    """That of coupled where they are of one engine with several drafters; else their own."""
    own = ActiveSequence.noise.fget
    changed = property(lambda sequence: replace(own(sequence), shared=sequence.request.rule is not None))
    with patch.object(ActiveSequence, "noise", changed):
        yield


CHAINS = tuple(kind for kind in KINDS if kind.drafter == "model")


@pytest.mark.parametrize(
    "mistake", [all_rows_judged_by_the_first_ones_rule, all_rows_take_their_noise_for_the_same_rule]
)
def test_a_planted_mistake_is_found(mistake: Callable[[], AbstractContextManager[None]]) -> None:
    with mistake():
        assert not are_those_of_engines_of_their_own(CHAINS)
