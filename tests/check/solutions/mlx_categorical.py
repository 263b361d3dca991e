"""In MLX: categorical wants logits and gets the residual itself."""

import mlx.core as mx


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = mx.softmax(target_logits, axis=-1), mx.softmax(draft_logits, axis=-1)
    for i, x in enumerate(draft_tokens):
        if mx.random.uniform().item() >= min(1.0, (p[i, x] / q[i, x]).item()):
            residual = mx.maximum(p[i] - q[i], 0)
            return i, draft_tokens[:i] + [mx.random.categorical(residual / residual.sum()).item()]
    return len(draft_tokens), draft_tokens + [mx.random.categorical(target_logits[-1]).item()]
