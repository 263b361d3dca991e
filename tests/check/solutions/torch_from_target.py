"""In PyTorch: the correction is drawn from p."""

import torch


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = torch.softmax(target_logits, -1), torch.softmax(draft_logits, -1)
    for i, x in enumerate(draft_tokens):
        if torch.rand(()) >= min(1.0, p[i, x] / q[i, x]):
            return i, draft_tokens[:i] + [torch.multinomial(p[i], 1).item()]
    return len(draft_tokens), draft_tokens + [torch.multinomial(p[-1], 1).item()]
