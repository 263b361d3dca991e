"""The loop goes on after a rejection."""

import numpy as np
from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    accepted, out = 0, []
    for i, x in enumerate(draft_tokens):
        if rng.random() < min(1.0, p[i, x] / q[i, x]):
            accepted += 1
            out.append(x)
        else:
            out.append(pick(np.maximum(p[i] - q[i], 0)))
    return accepted, out
