"""Task 2: which draft tokens stay? This is speculative sampling: arXiv 2211.17192, algorithm 1.

The draft model drew its tokens from q. We want tokens of p, the target's distribution. Each draft token x is kept with
chance min(1, p(x) / q(x)). So where q gives a token more than p does, some of it is thrown away. What is thrown away
is handed to the tokens that q gives too little: the correction comes from max(p - q, 0).

    python examples/course/verification.py
"""

import numpy as np

generator = np.random.default_rng()  # made once: a generator made in the function would repeat itself


def softmax(logits):
    """Distributions [..., vocab] of logits. In PyTorch: torch.softmax(logits, -1); in MLX: mx.softmax(logits, -1)."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def draw(chances):
    """One token. In PyTorch: torch.multinomial(chances, 1); in MLX: mx.random.categorical(mx.log(chances))."""
    reached = np.cumsum(chances, dtype=np.float64)
    return int(np.searchsorted(reached / reached[-1], generator.random(), side="right"))


def verify_speculation(draft_tokens, target_logits, draft_logits):
    """Keep what the target would have said too.

    Args:
        draft_tokens: k tokens, drawn one after the other from softmax(draft_logits).
        target_logits: [k + 1, vocab]; row i predicts draft token i, the last row what follows them all. With k rows
            there is no bonus token.
        draft_logits: [k, vocab].

    Returns:
        (num_accepted, corrected_tokens): the accepted draft tokens and one token more.
    """
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, token in enumerate(draft_tokens):
        # As u * q < p, and not u < p / q: nothing is divided by 0.
        if generator.random() * q[i, token] < p[i, token]:
            continue
        residual = np.maximum(p[i] - q[i], 0)
        return i, [*draft_tokens[:i], draw(residual / residual.sum())]
    bonus = [draw(p[-1])] if len(p) > len(draft_tokens) else []
    return len(draft_tokens), [*draft_tokens, *bonus]


if __name__ == "__main__":
    p, q = np.array([0.1, 0.6, 0.3]), np.array([0.5, 0.3, 0.2])
    target_logits, draft_logits = np.log([p, p]), np.log([q])
    emitted = np.zeros(3)
    for _ in range(20_000):
        _, tokens = verify_speculation([draw(q)], target_logits, draft_logits)
        emitted[tokens[0]] += 1
    print("target      ", p)
    print("draft model ", q)
    print("what comes  ", (emitted / emitted.sum()).round(2))
