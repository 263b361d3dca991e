"""The texts are the draft model's."""

import numpy as np
from right_numpy import SpeculativeDecoder


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100):
    decoder = SpeculativeDecoder(draft_model, target_model)
    return [decoder.draft_generation(np.array([prompt]), max_tokens) for prompt in batch_prompts]
