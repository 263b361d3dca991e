"""Accepted where the target says so too."""

import numpy as np
from right_numpy import rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, x in enumerate(draft_tokens):
        if rng.random() < float(x == p[i].argmax()):
            continue
        left = np.maximum(p[i] - q[i], 0)
        return i, draft_tokens[:i] + [int(p[i].argmax())]
    return len(draft_tokens), draft_tokens + [int(p[-1].argmax())]
