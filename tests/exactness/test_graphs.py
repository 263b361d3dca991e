"""Sessions for GPUs, with the CPU in their place: outputs of a whole engine have the target's distribution."""

from collections import Counter

import pytest

from exactness.statistics import THRESHOLD, Outcome, joint_distribution, p_of_stages
from exactness.test_runtimes import VOCABULARY, LogitsOf, graphed
from outrider import Engine, Fixed, Handle, ModelDrafter, Request, SamplingParams

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("error::RuntimeWarning")]

PROMPT = (0, 1, 3, 2)
LENGTH = 2
TEXTS = 500
ROWS = 16


def test_texts_of_many_rows_have_the_targets_distribution() -> None:
    target, draft = graphed(40), graphed(41)
    engine = Engine(target, ModelDrafter(draft), lookahead=Fixed(3), max_rows=ROWS, capacity=16)
    handles: list[Handle] = []

    def first(texts: int) -> Counter[Outcome]:
        for seed in range(len(handles), texts):
            handles.append(engine.submit(Request(PROMPT, LENGTH + 3, SamplingParams(temperature=0.9, seed=seed))))
        while not engine.idle:
            engine.step()
        return Counter(tuple(handle.tokens[:LENGTH]) for handle in handles)

    truth = joint_distribution(LogitsOf(target), PROMPT, LENGTH, SamplingParams(temperature=0.9))
    assert p_of_stages(first, truth, TEXTS) > THRESHOLD
    assert 0 < sum(handle.stats.accepted for handle in handles) < sum(handle.stats.drafted for handle in handles)
    assert len(first(0)) > VOCABULARY
