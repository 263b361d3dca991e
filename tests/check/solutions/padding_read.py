"""Prompts are padded to one length, and the padding is read as text."""

import numpy as np
from right_numpy import SpeculativeDecoder


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100):
    longest = max(map(len, batch_prompts))
    decoder = SpeculativeDecoder(draft_model, target_model)
    padded = [[0] * (longest - len(prompt)) + list(prompt) for prompt in batch_prompts]
    return [decoder.generate(np.array([prompt]), max_tokens) for prompt in padded]
