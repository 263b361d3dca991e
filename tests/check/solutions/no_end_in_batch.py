"""EOS among the accepted draft tokens is not seen."""

import numpy as np
from right_numpy import SpeculativeDecoder

EOS_TOKEN_ID = 50256


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100):
    texts = []
    for prompt in batch_prompts:
        text = []
        while len(text) < max_tokens and (not text or text[-1] != EOS_TOKEN_ID):
            full = np.array([list(prompt) + text])
            text += SpeculativeDecoder(draft_model, target_model).generate(full, 3)
        texts.append(text[:max_tokens])
    return texts
