"""All four tasks, right, in PyTorch: prompts [1, L], the correction alone as a tensor, a padded batch, EOS."""

import torch


def verify_speculation(draft_tokens, target_logits, draft_logits, temperature=1.0):
    if temperature == 0:
        p = torch.nn.functional.one_hot(target_logits.argmax(-1), target_logits.shape[-1]).float()
        q = torch.nn.functional.one_hot(draft_logits.argmax(-1), draft_logits.shape[-1]).float()
    else:
        p, q = torch.softmax(target_logits / temperature, -1), torch.softmax(draft_logits / temperature, -1)
    for i, x in enumerate(draft_tokens):
        if torch.rand(()) * q[i, x] >= p[i, x]:
            return i, torch.multinomial((p[i] - q[i]).clamp(min=0), 1)
    return len(draft_tokens), torch.multinomial(p[len(draft_tokens)], 1)


class SpeculativeDecoder:
    def __init__(self, draft_model, target_model, lookahead: int = 4):
        self.draft_model, self.target_model, self.lookahead = draft_model, target_model, lookahead

    def draft_generation(self, prompt_tokens: torch.Tensor, num_tokens: int, temperature: float = 1.0) -> list[int]:
        text = prompt_tokens
        for _ in range(num_tokens):
            logits = self.draft_model(text)[:, -1, :]
            text = torch.cat([text, torch.multinomial(torch.softmax(logits / temperature, -1), 1)], dim=1)
        return text[0, prompt_tokens.shape[1] :].tolist()


class AdaptiveSpeculator:
    def __init__(self, initial_lookahead: int = 4, min_lookahead: int = 1, max_lookahead: int = 8):
        self.current_lookahead = initial_lookahead
        self.min_lookahead, self.max_lookahead = min_lookahead, max_lookahead
        self.history = []

    def update_lookahead(self, acceptance_rate: float):
        self.history = (self.history + [acceptance_rate])[-10:]
        mean = sum(self.history) / len(self.history)
        if mean > 0.8:
            self.current_lookahead = min(self.current_lookahead + 1, self.max_lookahead)
        elif mean < 0.3:
            self.current_lookahead = max(self.current_lookahead - 1, self.min_lookahead)

    def get_lookahead(self):
        return self.current_lookahead


def batched_speculative_decode(
    batch_prompts, draft_model, target_model, max_tokens=100, lookahead=4, eos_token_id=None
):
    texts = [list(prompt) for prompt in batch_prompts]
    starts = [len(text) for text in texts]
    open_rows = set(range(len(texts)))
    while open_rows:
        rows = sorted(open_rows)
        drafts = {row: [] for row in rows}
        logits = {row: [] for row in rows}
        for _ in range(lookahead):
            scored = draft_model(padded([texts[row] + drafts[row] for row in rows]))
            for place, row in enumerate(rows):
                last = scored[place, len(texts[row]) + len(drafts[row]) - 1]
                logits[row].append(last)
                drafts[row].append(int(torch.multinomial(torch.softmax(last, -1), 1)))
        scored = target_model(padded([texts[row] + drafts[row] for row in rows]))
        for place, row in enumerate(rows):
            begin = len(texts[row]) - 1
            accepted, token = verify_speculation(
                drafts[row], scored[place, begin : begin + lookahead + 1], torch.stack(logits[row])
            )
            for new in [*drafts[row][:accepted], int(token)]:
                texts[row].append(new)
                if new == eos_token_id or len(texts[row]) == starts[row] + max_tokens:
                    open_rows.discard(row)
                    break
    return [text[start:] for text, start in zip(texts, starts, strict=True)]


def padded(rows):
    longest = max(map(len, rows))
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows])
