"""Several texts in one engine, of different lengths, begun and ended at different times."""

from collections import Counter, deque
from dataclasses import replace

import pytest

from exactness.drafters import similar
from exactness.statistics import THRESHOLD, joint_distribution, p_value
from outrider import Adaptive, AdaptiveSpeculator, Engine, ModelDrafter, Request, SamplingParams, TableModel

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

DRAWS = 2_000
PROMPTS = ((1,), (0, 2, 1, 1, 3), (2, 2, 0))
SAMPLINGS = (
    SamplingParams(),
    SamplingParams(temperature=0.7, top_p=0.9),
    SamplingParams(repetition_penalty=1.5),
)
LENGTH = 3


@pytest.mark.parametrize("rule", ["token", "block", "coupled"])
def test_every_text_of_a_batch_has_its_own_distribution(rule: str) -> None:
    target = TableModel.random(4, 2, spread=1.2, seed=7)
    lookahead = Adaptive(AdaptiveSpeculator(2, min_lookahead=0, max_lookahead=4, patience=1))
    drafter = ModelDrafter(similar(target, seed=8))
    engine = Engine(target, drafter, lookahead=lookahead, rule=rule, max_rows=5, capacity=64)
    waiting = deque(
        Request(prompt, LENGTH + 2, replace(sampling, seed=seed))
        for seed in range(DRAWS)
        for prompt, sampling in zip(PROMPTS, SAMPLINGS, strict=True)
    )
    counts: dict[tuple[int, ...], Counter] = {prompt: Counter() for prompt in PROMPTS}
    active = []
    while waiting or active:
        while waiting and len(engine.active) + len(engine.waiting) < 5:
            active.append(engine.submit(waiting.popleft()))
        engine.step()
        for sequence in active:
            if sequence.finished:
                counts[sequence.request.prompt][tuple(sequence.output[:LENGTH])] += 1
        active = [sequence for sequence in active if not sequence.finished]

    for prompt, sampling in zip(PROMPTS, SAMPLINGS, strict=True):
        assert counts[prompt].total() == DRAWS
        assert p_value(counts[prompt], joint_distribution(target, prompt, LENGTH, sampling)) > THRESHOLD
