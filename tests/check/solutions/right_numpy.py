"""All four tasks, right, in NumPy; prompts [1, L], k + 1 rows of target logits."""

import numpy as np

rng = np.random.default_rng()


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def pick(p):
    return int(rng.choice(len(p), p=p / p.sum()))


def verify_speculation(draft_tokens, target_logits, draft_logits):
    p, q = softmax(target_logits), softmax(draft_logits)
    for i, x in enumerate(draft_tokens):
        if rng.random() < min(1.0, p[i, x] / q[i, x]):
            continue
        left = np.maximum(p[i] - q[i], 0)
        return i, draft_tokens[:i] + [pick(left)]
    return len(draft_tokens), draft_tokens + [pick(p[-1])]


class SpeculativeDecoder:
    def __init__(self, draft_model, target_model, lookahead=4):
        self.draft_model = draft_model
        self.target_model = target_model
        self.lookahead = lookahead

    def draft_generation(self, prompt_tokens, num_tokens):
        text, out = prompt_tokens, []
        for _ in range(num_tokens):
            out.append(pick(softmax(self.draft_model(text)[0, -1])))
            text = np.concatenate([text, [[out[-1]]]], axis=1)
        return out

    def generate(self, prompt_tokens, max_tokens=100):
        text, start = prompt_tokens, prompt_tokens.shape[1]
        while text.shape[1] < start + max_tokens:
            length = text.shape[1]
            draft = self.draft_generation(text, self.lookahead)
            full = np.concatenate([text, [draft]], axis=1)
            rows = slice(length - 1, length - 1 + self.lookahead)
            _, new = verify_speculation(
                draft, self.target_model(full)[0, length - 1 :], self.draft_model(full)[0, rows]
            )
            text = np.concatenate([text, [new]], axis=1)
        return text[0, start : start + max_tokens].tolist()


class AdaptiveSpeculator:
    def __init__(self, initial_lookahead=4):
        self.lookahead = initial_lookahead
        self.average = 0.6

    def update_lookahead(self, acceptance_rate):
        self.average = 0.7 * self.average + 0.3 * acceptance_rate
        if self.average > 0.75:
            self.lookahead = min(self.lookahead + 1, 8)
        elif self.average < 0.4:
            self.lookahead = max(self.lookahead - 1, 1)


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100):
    decoder = SpeculativeDecoder(draft_model, target_model)
    return [decoder.generate(np.array([prompt]), max_tokens) for prompt in batch_prompts]
