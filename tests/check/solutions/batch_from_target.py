"""Corrections are drawn from p."""

import numpy as np
from right_numpy import SpeculativeDecoder, pick, rng, softmax


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100, lookahead=4):
    texts = []
    for prompt in batch_prompts:
        text = list(prompt)
        while len(text) < len(prompt) + max_tokens:
            draft = SpeculativeDecoder(draft_model, target_model).draft_generation(np.array([text]), lookahead)
            full = np.array([text + draft])
            p, q = softmax(target_model(full)[0, len(text) - 1 :]), softmax(draft_model(full)[0, len(text) - 1 :])
            for i, x in enumerate(draft):
                if rng.random() * q[i, x] >= p[i, x]:
                    text = text + [pick(p[i])]
                    break
                text = text + [x]
            else:
                text = text + [pick(p[-1])]
        texts.append(text[len(prompt) :][:max_tokens])
    return texts
