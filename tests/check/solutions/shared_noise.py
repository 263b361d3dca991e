"""One seed for every row."""

import numpy as np
import right_numpy
from right_numpy import SpeculativeDecoder

SEEDS = np.random.default_rng()


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100):
    seed = int(SEEDS.integers(2**32))
    texts = []
    for prompt in batch_prompts:
        right_numpy.rng = np.random.default_rng(seed)
        texts.append(SpeculativeDecoder(draft_model, target_model).generate(np.array([prompt]), max_tokens))
    return texts
