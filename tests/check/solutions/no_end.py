"""Only the last token of a round is held against EOS."""

import numpy as np
import right_numpy as right


class SpeculativeDecoder(right.SpeculativeDecoder):
    def __init__(self, draft_model, target_model, lookahead=4, eos_token_id=None):
        super().__init__(draft_model, target_model, lookahead)
        self.eos_token_id = eos_token_id

    def generate(self, prompt_tokens, max_tokens=100):
        text, start = prompt_tokens, prompt_tokens.shape[1]
        while text.shape[1] < start + max_tokens and text[0, -1] != self.eos_token_id:
            length = text.shape[1]
            draft = self.draft_generation(text, self.lookahead)
            full = np.concatenate([text, [draft]], axis=1)
            rows = slice(length - 1, length - 1 + self.lookahead)
            _, new = right.verify_speculation(
                draft, self.target_model(full)[0, length - 1 :], self.draft_model(full)[0, rows]
            )
            text = np.concatenate([text, [new]], axis=1)
        return text[0, start : start + max_tokens].tolist()
