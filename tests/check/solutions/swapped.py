"""p and q have changed places in acceptance and residual."""

import numpy as np
from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, x in enumerate(draft_tokens):
        if rng.random() < min(1.0, q[i, x] / p[i, x]):
            continue
        return i, draft_tokens[:i] + [pick(np.maximum(q[i] - p[i], 0) + 1e-12)]
    return len(draft_tokens), draft_tokens + [pick(p[-1])]
