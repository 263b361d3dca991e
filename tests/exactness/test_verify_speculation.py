"""verify_speculation by itself, with drafts that NumPy drew."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import numpy as np
import pytest

from exactness.drafters import similar
from exactness.libraries import array_maker
from exactness.statistics import (
    THRESHOLD,
    Conditionals,
    Outcome,
    completions,
    joint_distribution,
    p_of_stages,
)
from outrider import SamplingParams, TableModel, verify_speculation

pytestmark = pytest.mark.slow

LOOKAHEAD = 2
PROMPT = (1, 0)
TEMPERATURE = SamplingParams(temperature=0.7)
TARGET = TableModel.random(4, 2, spread=1.2, seed=21)
DRAFT = similar(TARGET, seed=22)


TARGET_TRUTH = Conditionals(TARGET, PROMPT, TEMPERATURE)
DRAFT_TRUTH = Conditionals(DRAFT, PROMPT, TEMPERATURE)


def verified(rule: str, make_array: Callable[[Any], Any], rows: int, greedy: bool) -> Iterator[Outcome]:
    generator = np.random.default_rng(23)
    for seed in count():
        tokens: Outcome = ()
        for _ in range(LOOKAHEAD):
            token = int(np.argmax(DRAFT_TRUTH.after(tokens))) if greedy else DRAFT_TRUTH.draw(tokens, generator)
            tokens = (*tokens, token)
        draft_logits = [DRAFT.logits_after([*PROMPT, *tokens[:count]]) for count in range(LOOKAHEAD)]
        target_logits = [TARGET.logits_after([*PROMPT, *tokens[:count]]) for count in range(rows)]
        accepted, emitted = verify_speculation(
            make_array(tokens),
            make_array(np.stack(target_logits)),
            None if greedy else make_array(np.stack(draft_logits)),
            temperature=TEMPERATURE.temperature,
            rule=rule,
            seed=seed,
        )
        assert emitted[:accepted] == list(tokens[:accepted])
        assert len(emitted) == min(accepted + 1, rows)
        yield tuple(emitted)


def check(rule: str, rows: int, draws: int, greedy: bool = False) -> None:
    outputs: list[Outcome] = []
    more = verified(rule, array_maker("numpy"), rows, greedy)

    def first(draws: int) -> Counter[Outcome]:
        outputs.extend(islice(more, draws - len(outputs)))
        return completions(TARGET_TRUTH, outputs, rows)

    assert p_of_stages(first, joint_distribution(TARGET, PROMPT, rows, TEMPERATURE), draws) > THRESHOLD


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("rows", [LOOKAHEAD, LOOKAHEAD + 1], ids=["without-bonus", "with-bonus"])
def test_sampled_drafts_in_numpy(rule: str, rows: int) -> None:
    check(rule, rows, draws=5_000)


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_deterministic_drafts(rule: str) -> None:
    check(rule, LOOKAHEAD + 1, draws=3_000, greedy=True)


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
@pytest.mark.parametrize("library, rows", [("torch", 2), ("torch", 3), ("mlx", 2), ("mlx", 3)])
def test_other_libraries_emit_what_numpy_emits(rule: str, library: str, rows: int) -> None:
    in_numpy, in_library = (
        list(islice(verified(rule, array_maker(each), rows, greedy=False), 400)) for each in ("numpy", library)
    )
    assert in_library == in_numpy
