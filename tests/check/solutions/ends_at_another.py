"""The stop token of one row ends all rows."""

import numpy as np
from right_numpy import SpeculativeDecoder


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100, eos_token_id=None):
    texts = [[] for _ in batch_prompts]
    while len(texts[-1]) < max_tokens:
        for text, prompt in zip(texts, batch_prompts, strict=True):
            text += SpeculativeDecoder(draft_model, target_model).generate(np.array([[*prompt, *text]]), 1)
        if any(text[-1] == eos_token_id for text in texts):
            break
    return texts
