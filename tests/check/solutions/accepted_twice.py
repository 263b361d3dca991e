"""The accepted tokens are appended, and once more with the correction."""

import numpy as np
import right_numpy as right


class SpeculativeDecoder(right.SpeculativeDecoder):
    def generate(self, prompt_tokens, max_tokens=100):
        text, start = prompt_tokens, prompt_tokens.shape[1]
        while text.shape[1] < start + max_tokens:
            length = text.shape[1]
            draft = self.draft_generation(text, self.lookahead)
            full = np.concatenate([text, [draft]], axis=1)
            rows = slice(length - 1, length - 1 + self.lookahead)
            accepted, new = right.verify_speculation(
                draft, self.target_model(full)[0, length - 1 :], self.draft_model(full)[0, rows]
            )
            text = np.concatenate([text, [draft[:accepted] + new]], axis=1)
        return text[0, start : start + max_tokens].tolist()
