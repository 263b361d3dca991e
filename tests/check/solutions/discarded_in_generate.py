"""Drafts are right; generate drops token 0 and what follows it."""

import numpy as np
import right_numpy as right


class SpeculativeDecoder(right.SpeculativeDecoder):
    def generate(self, prompt_tokens, max_tokens=100):
        text, start = prompt_tokens, prompt_tokens.shape[1]
        while text.shape[1] < start + max_tokens:
            length = text.shape[1]
            draft = self.draft_generation(text, self.lookahead)
            draft = draft[: draft.index(0)] if 0 in draft else draft
            full = np.array([text[0].tolist() + draft])
            logits = self.draft_model(full)[0, length - 1 : length - 1 + len(draft)]
            _, new = right.verify_speculation(draft, self.target_model(full)[0, length - 1 :], logits)
            text = np.concatenate([text, [new]], axis=1)
        return text[0, start : start + max_tokens].tolist()
