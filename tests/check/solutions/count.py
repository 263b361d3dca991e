"""The correction and the bonus are counted."""

import numpy as np
from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    out = []
    for i, x in enumerate(draft_tokens):
        if rng.random() >= min(1.0, p[i, x] / q[i, x]):
            out.append(pick(np.maximum(p[i] - q[i], 0)))
            return len(out), out
        out.append(x)
    out.append(pick(p[-1]))
    return len(out), out
