"""All rows are judged by the logits of row 0."""

import numpy as np
from right_numpy import SpeculativeDecoder, verify_speculation


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100, lookahead=4):
    texts = [list(prompt) for prompt in batch_prompts]
    while any(len(text) < len(prompt) + max_tokens for text, prompt in zip(texts, batch_prompts, strict=True)):
        rows = []
        for text in texts:
            draft = SpeculativeDecoder(draft_model, target_model).draft_generation(np.array([text]), lookahead)
            rows.append((draft, len(text), np.array([text + draft])))
        begin, first = rows[0][1], target_model(rows[0][2])[0]
        for text, (draft, length, full) in zip(texts, rows, strict=True):
            draft_logits = draft_model(full)[0, length - 1 : -1]
            text += verify_speculation(draft, first[begin - 1 :], draft_logits)[1]
    return [text[len(prompt) :][:max_tokens] for text, prompt in zip(texts, batch_prompts, strict=True)]
