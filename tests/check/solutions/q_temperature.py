"""q is computed at temperature 0.6; the draft was drawn at 1."""

import numpy as np
from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits / 0.6)
    for i, x in enumerate(draft_tokens):
        if rng.random() < min(1.0, p[i, x] / q[i, x]):
            continue
        left = np.maximum(p[i] - q[i], 0)
        return i, draft_tokens[:i] + [pick(left)]
    return len(draft_tokens), draft_tokens + [pick(p[-1])]
