"""Texts that adopt prefixes of others, finished or going on, have their own distribution."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import pytest

from exactness.drafters import lookups, memory_of, similar
from exactness.policies import Sometimes
from exactness.statistics import THRESHOLD
from exactness.test_batches import alone
from exactness.traffic import Kind, Outputs, serve, serve_in_stages
from outrider import Drafter, Engine, Handle, ModelDrafter, ModelTreeDrafter, SamplingParams, StaticTree, TableModel
from outrider.runtimes.prefixes import Owned, Prefixes, common_length

LENGTH = 3  # tokens counted, as in test_batches.py
DRAWS = 600
DRAWS_COMPARED = 100  # one by one
SHARED = tuple(place * place % 4 for place in range(18))
KINDS = (
    Kind((*SHARED, 0, 1)),
    Kind((*SHARED, 2, 3), SamplingParams(temperature=0.7)),
    Kind((*SHARED, 2, 3, 3, 1), SamplingParams(top_k=3), stop_token_ids=frozenset({2})),
)
TARGET = TableModel.random(4, 2, spread=1.2, seed=21)
DRAFTERS: dict[str, Callable[[], Drafter]] = {
    "model": lambda: ModelDrafter(similar(TARGET, seed=1021)),
    "model-tree": lambda: ModelTreeDrafter(similar(TARGET, seed=1021), StaticTree((2, 2))),
    "lookups": lambda: lookups(memory_of(TARGET)),
}


class Counting(Engine):
    """Keeps what was submitted."""

    def submit(self, request) -> Handle:
        self.handles = [*getattr(self, "handles", []), super().submit(request)]
        return self.handles[-1]


def served(rule: str, drafter: str) -> Outputs:
    engine = Counting(
        TARGET, DRAFTERS[drafter](), lookahead=Sometimes(), rule=rule, max_rows=4, capacity=40, max_waiting=2
    )
    if rule == "coupled":
        outputs = serve(lambda: engine, KINDS, LENGTH, DRAWS_COMPARED)
    else:
        outputs = serve_in_stages(engine, KINDS, LENGTH, DRAWS, TARGET)
    assert sum(handle.stats.cached_tokens >= len(SHARED) for handle in engine.handles) > len(engine.handles) * 0.9
    return outputs


@pytest.mark.parametrize(
    ("rule", "drafter"), [("token", "model"), ("block", "model"), ("token", "model-tree"), ("token", "lookups")]
)
def test_every_text_has_its_own_distribution(rule: str, drafter: str) -> None:
    assert served(rule, drafter).smallest_p_value(TARGET) > THRESHOLD


def test_coupled_texts_are_those_of_plain_decoding() -> None:
    outputs = served("coupled", "model")
    assert outputs.of_kind == [alone(TARGET, kind, outputs.seeds[number]) for number, kind in enumerate(KINDS)]


def one_token_too_many_is_adopted() -> AbstractContextManager:
    def changed(text: Owned, other: Owned) -> int:
        return min(common_length(text.tokens, other.tokens) + 1, len(text.tokens) - 1, len(other.tokens))

    return patch.object(Prefixes, "shared", staticmethod(changed))


def the_longest_row_is_taken_for_the_prefix() -> AbstractContextManager:
    def changed(text: Owned, other: Owned) -> int:
        return min(len(text.tokens) - 1, len(other.tokens))

    return patch.object(Prefixes, "shared", staticmethod(changed))


@pytest.mark.parametrize("mistake", [one_token_too_many_is_adopted, the_longest_row_is_taken_for_the_prefix])
def test_a_mistake_is_found(mistake: Callable[[], AbstractContextManager]) -> None:
    with mistake():
        assert served("token", "model").smallest_p_value(TARGET) < THRESHOLD
