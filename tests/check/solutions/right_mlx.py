"""All four tasks, right, in MLX, in the chapter's own shapes: prompts mx.array [1, L], the text with its prompt."""

import mlx.core as mx


def verify_speculation(
    draft_tokens: list[int], target_logits: mx.array, draft_logits: mx.array
) -> tuple[int, list[int]]:
    p, q = mx.softmax(target_logits, axis=-1), mx.softmax(draft_logits, axis=-1)
    for i, token in enumerate(draft_tokens):
        ratio = float(p[i, token]) / float(q[i, token])
        if float(mx.random.uniform()) >= min(1.0, ratio):
            residual = mx.maximum(p[i] - q[i], 0)
            correction = mx.random.categorical(mx.log(residual / residual.sum()))
            return i, draft_tokens[:i] + [int(correction)]
    bonus = []
    if target_logits.shape[0] > len(draft_tokens):
        bonus = [int(mx.random.categorical(target_logits[len(draft_tokens)]))]
    return len(draft_tokens), draft_tokens + bonus


class SpeculativeDecoder:
    def __init__(self, draft_model, target_model, lookahead: int = 4):
        self.draft_model = draft_model
        self.target_model = target_model
        self.lookahead = lookahead

    def draft_generation(self, prompt_tokens: mx.array, num_tokens: int) -> list[int]:
        text, draft = prompt_tokens, []
        for _ in range(num_tokens):
            token = mx.random.categorical(self.draft_model(text)[:, -1, :])
            draft.append(int(token.item()))
            text = mx.concatenate([text, token.reshape(1, 1)], axis=1)
        return draft


class AdaptiveSpeculator:
    def __init__(self, initial_lookahead: int = 4):
        self.lookahead = initial_lookahead
        self.rates = []

    def update_lookahead(self, acceptance_rate: float):
        self.rates = [*self.rates[-4:], acceptance_rate]
        mean = sum(self.rates) / len(self.rates)
        self.lookahead = max(1, min(10, self.lookahead + (mean > 0.7) - (mean < 0.4)))
        return self.lookahead


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens: int = 100) -> list[list[int]]:
    decoder = SpeculativeDecoder(draft_model, target_model, lookahead=3)
    texts = []
    for prompt in batch_prompts:
        text = list(prompt)
        while len(text) < len(prompt) + max_tokens:
            draft = decoder.draft_generation(mx.array([text]), min(3, len(prompt) + max_tokens - len(text)))
            full, begin = mx.array([text + draft]), len(text) - 1
            target_logits = target_model(full)[0, begin:]
            draft_logits = draft_model(full)[0, begin : begin + len(draft)]
            _, new = verify_speculation(draft, target_logits, draft_logits)
            text += new
        texts.append(text[: len(prompt) + max_tokens])
    return texts
