"""Drafted tokens are not read."""

import right_numpy as right
from right_numpy import pick, softmax


class SpeculativeDecoder(right.SpeculativeDecoder):
    def draft_generation(self, prompt_tokens, num_tokens):
        q = softmax(self.draft_model(prompt_tokens)[0, -1])
        return [pick(q) for _ in range(num_tokens)]
