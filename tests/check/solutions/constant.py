"""A generator is made in every call, from one seed."""

import numpy as np
from right_numpy import softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    rng = np.random.default_rng(0)
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, x in enumerate(draft_tokens):
        if rng.random() < min(1.0, p[i, x] / q[i, x]):
            continue
        left = np.maximum(p[i] - q[i], 0)
        return i, draft_tokens[:i] + [int(rng.choice(len(left), p=left / left.sum()))]
    return len(draft_tokens), draft_tokens + [int(rng.choice(len(p[-1]), p=p[-1]))]
