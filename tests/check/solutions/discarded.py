"""A token that the draft model thought unlikely is dropped once it is drawn."""

import numpy as np
import right_numpy as right
from right_numpy import pick, softmax


class SpeculativeDecoder(right.SpeculativeDecoder):
    def draft_generation(self, prompt_tokens, num_tokens):
        text, out = prompt_tokens, []
        for _ in range(num_tokens):
            q = softmax(self.draft_model(text)[0, -1])
            token = pick(q)
            if q[token] < 0.3:
                break
            out.append(token)
            text = np.concatenate([text, [[token]]], axis=1)
        return out

    def generate(self, prompt_tokens, max_tokens=100):
        text, start = prompt_tokens, prompt_tokens.shape[1]
        while text.shape[1] < start + max_tokens:
            length = text.shape[1]
            draft = self.draft_generation(text, self.lookahead)
            full = np.array([text[0].tolist() + draft])
            logits = self.draft_model(full)[0, length - 1 : length - 1 + len(draft)]
            _, new = right.verify_speculation(draft, self.target_model(full)[0, length - 1 :], logits)
            text = np.concatenate([text, [new]], axis=1)
        return text[0, start : start + max_tokens].tolist()
