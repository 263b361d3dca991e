"""All rows share one list."""

import numpy as np
from right_numpy import SpeculativeDecoder


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100):
    texts = [[]] * len(batch_prompts)
    for row, prompt in enumerate(batch_prompts):
        texts[row] += SpeculativeDecoder(draft_model, target_model).generate(np.array([prompt]), max_tokens)
    return texts
