"""The prefix cache: what a new text need not read, and that its output is the same."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exactness.drafters import lookups, similar
from outrider import (
    Chained,
    Draft,
    Drafter,
    Engine,
    Handle,
    ModelDrafter,
    RecyclingMemory,
    Request,
    SamplingParams,
    SuffixDrafter,
    TableModel,
    load,
)
from outrider.runtimes.base import Features, Pass
from tiny import model as tiny_model

TARGET = TableModel.random(7, 3, seed=3)
GREEDY = SamplingParams(temperature=0)


def words(count: int, seed: int = 0) -> tuple[int, ...]:
    return tuple(np.random.default_rng(seed).integers(1, 7, count).tolist())


class Watched(TableModel):
    """Counts what is fed, and in how many passes."""

    def open(self, rows, capacity):
        session = super().open(rows, capacity)
        extend = session.extend
        self.fed: list[list[int]] = []

        def watched(work: Pass):
            self.fed.append([len(new) for new in work.tokens])
            return extend(work)

        session.extend = watched
        return session


def run(engine: Engine, *requests: Request) -> list[Handle]:
    handles = [engine.submit(request) for request in requests]
    while not engine.idle:
        engine.step()
    return handles


def opened(rows: int = 3, drafter: Drafter | None = None, **settings) -> Engine:
    return Engine(TARGET, drafter, lookahead=3, max_rows=rows, capacity=400, **settings)


def test_the_second_turn_of_a_chat_reads_only_what_is_new() -> None:
    target = Watched(TARGET.table)
    engine = Engine(target, max_rows=2, capacity=400)
    [first] = run(engine, Request(words(200), 20, GREEDY))
    turn = (*words(200), *first.tokens, *words(9, 1))
    target.fed.clear()
    [second] = run(engine, Request(turn, 5, GREEDY))
    assert target.fed[0] == [10]  # the last token of the answer was pending
    assert (first.stats.cached_tokens, second.stats.cached_tokens) == (0, 219)
    assert second.tokens == run(opened(), Request(turn, 5, GREEDY))[0].tokens


def test_the_row_that_was_not_used_for_longest_is_given_up() -> None:
    engine = opened(rows=2)
    texts = [words(40, seed) for seed in range(3)]
    for text in (texts[0], texts[1], texts[0], texts[2]):  # the third one uses the first row again
        run(engine, Request(text, 2, GREEDY))
    cached = [run(engine, Request(text, 2, GREEDY))[0].stats.cached_tokens for text in (texts[0], texts[2], texts[1])]
    assert cached == [39, 39, 0]


def test_a_prefix_is_copied_from_a_text_that_goes_on() -> None:
    engine = opened(rows=2)
    text = words(60)
    first = engine.submit(Request(text, 30, GREEDY))
    for _ in range(5):
        engine.step()
    [second] = run(engine, Request((*text[:50], 1, 2, 3), 10, GREEDY))
    assert second.stats.cached_tokens >= 50
    assert first.tokens == run(opened(), Request(text, 30, GREEDY))[0].tokens
    assert second.tokens == run(opened(), Request((*text[:50], 1, 2, 3), 10, GREEDY))[0].tokens


def test_texts_that_come_together_read_their_common_beginning_once() -> None:
    target = Watched(TARGET.table)
    engine = Engine(target, max_rows=4, capacity=400)
    requests = [Request((*words(100), number), 6, SamplingParams(seed=number)) for number in range(4)]
    handles = run(engine, *requests)
    assert target.fed[:2] == [[101], [1] * 4]  # the first one emits already
    assert [handle.stats.cached_tokens for handle in handles] == [0, 100, 100, 100]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    engine = opened(rows=2, max_waiting=4)
    long = engine.submit(Request(words(390), 2, GREEDY))
    engine.step()
    short = engine.submit(Request((*words(390)[:20], 5), 2, GREEDY))
    engine.step()
    assert long.finish_reason or long.tokens
    assert short.tokens


def test_keys_keep_texts_apart() -> None:
    engine = opened(rows=4)
    run(engine, Request(words(50), 2, GREEDY, isolation="a"))
    cached = [
        run(engine, Request(words(50), 2, GREEDY, isolation=key))[0].stats.cached_tokens for key in ("b", "a", "", "b")
    ]
    assert cached == [0, 49, 0, 49]


def test_it_can_be_switched_off() -> None:
    engine = opened(prefix_caching=False)
    cached = [run(engine, Request(words(50), 2, GREEDY))[0].stats.cached_tokens for _ in range(2)]
    assert cached == [0, 0]


class Hidden(Drafter):
    """Wants hidden states, and writes down what it is told."""

    name = "hidden"
    wants = Features(hidden=(1,))

    def __init__(self, holds: int | None = None) -> None:
        self.holds = holds
        self.told: list[tuple[int, int]] = []

    def adopt(self, sequence, length: int) -> int:
        return super().adopt(sequence, length) if self.holds is None else min(self.holds, length)

    def read(self, sequences, readings) -> None:
        self.told += [(reading.start, len(reading.tokens)) for reading in readings]

    def propose(self, sequences, budgets) -> list[Draft]:
        return [Draft(()) for _ in sequences]


@pytest.mark.parametrize(("holds", "adopted"), [(None, 0), (40, 40), (10, 0), (1000, 69)])
@pytest.mark.parametrize("several", [False, True])
def test_a_drafter_that_needs_the_prompt_has_it_read(
    holds: int | None, adopted: int, several: bool, tmp_path: Path
) -> None:
    pytest.importorskip("transformers")
    drafter = Hidden(holds)
    model = load(str(tiny_model.save(tmp_path)), dtype="float32")
    engine = Engine(
        model, Chained([SuffixDrafter(), drafter]) if several else drafter, lookahead=2, max_rows=2, capacity=100
    )
    prompt = tuple(place % 10 for place in range(70))
    run(engine, Request(prompt, 3, GREEDY))
    drafter.told.clear()
    [second] = run(engine, Request(prompt, 3, GREEDY))
    assert second.stats.cached_tokens == adopted
    assert drafter.told[0][0] == adopted


def test_a_draft_model_adopts_as_well() -> None:
    draft = Watched(similar(TARGET, seed=2).table)
    engine = opened(2, ModelDrafter(draft))
    [first] = run(engine, Request(words(200), 20, GREEDY))
    draft.fed.clear()
    run(engine, Request((*words(200), *first.tokens, *words(9, 1)), 5, GREEDY))
    assert max(max(counts) for counts in draft.fed) < 20


DRAFTERS = {
    "none": lambda: None,
    "model": lambda: ModelDrafter(similar(TARGET, seed=2)),
    "suffix": SuffixDrafter,
    "lookups": lambda: lookups(RecyclingMemory(50)),
}


@pytest.mark.parametrize("drafter", DRAFTERS)
@pytest.mark.parametrize("settings", [GREEDY, SamplingParams(seed=1)], ids=["greedy", "sampled"])
def test_output_is_the_same_with_and_without(drafter: str, settings: SamplingParams) -> None:
    def outputs(caching: bool) -> Sequence[list[int]]:
        engine = opened(2, DRAFTERS[drafter](), rule="coupled", prefix_caching=caching)
        text = words(40)
        found = []
        for turn in range(5):
            one, two = run(engine, *(Request((*text, word), 25, settings) for word in (1, 2)))
            found += [one.tokens, two.tokens]
            text = (*text, 1, *one.tokens, *words(3, turn))
        return found

    assert outputs(True) == outputs(False)


def test_where_kept_rows_slow_others_down_only_the_newest_one_is_kept() -> None:
    target = TableModel(TARGET.table)
    target.traits = replace(target.traits, attends_over_rows=True)
    engine = Engine(target, max_rows=3, capacity=400)
    texts = [words(40, seed) for seed in range(4)]

    def cached(*numbers: int) -> list[int]:
        handles = run(engine, *(Request((*texts[number], 1), 2, GREEDY) for number in numbers))
        return [handle.stats.cached_tokens for handle in handles]

    assert cached(0, 1) == [0, 0]  # both end in one round
    assert cached(1) == [40]
    assert cached(0) == [0]  # it begins alone, and text 1 is given up
    assert cached(1) == [0]
    assert cached(2) == [0]  # it begins alone
    assert cached(2) == [40]
    assert cached(1) == [0]


def test_a_state_that_cannot_be_cropped_is_adopted_whole_or_not_at_all() -> None:
    target = TableModel(TARGET.table)
    target.traits = replace(target.traits, crops=False)
    engine = Engine(target, max_rows=2, capacity=400)
    [first] = run(engine, Request(words(40), 5, GREEDY))
    text = (*words(40), *first.tokens[:4])
    assert run(engine, Request((*text[:-1], text[-1] % 6 + 1, 1), 2, GREEDY))[0].stats.cached_tokens == 0
    assert run(engine, Request((*text, 1, 1), 2, GREEDY))[0].stats.cached_tokens == 44
