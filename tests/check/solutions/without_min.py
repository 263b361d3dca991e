"""Ratios above 1 are carried on to the next position."""

import numpy as np
from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, x in enumerate(draft_tokens):
        if rng.random() < np.prod([p[j, y] / q[j, y] for j, y in enumerate(draft_tokens[: i + 1])]):
            continue
        left = np.maximum(p[i] - q[i], 0)
        return i, draft_tokens[:i] + [pick(left)]
    return len(draft_tokens), draft_tokens + [pick(p[-1])]
