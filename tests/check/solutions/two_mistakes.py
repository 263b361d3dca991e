"""No bonus token, and corrections from p."""

from right_numpy import pick, rng, softmax


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, x in enumerate(draft_tokens):
        if rng.random() < min(1.0, p[i, x] / q[i, x]):
            continue
        return i, draft_tokens[:i] + [pick(p[i])]
    return len(draft_tokens), draft_tokens
