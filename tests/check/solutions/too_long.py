"""The last round is not cut."""

import numpy as np
import right_numpy as right


class SpeculativeDecoder(right.SpeculativeDecoder):
    def generate(self, prompt_tokens, max_tokens=100):
        text, start = prompt_tokens, prompt_tokens.shape[1]
        while text.shape[1] < start + max_tokens:
            text = np.concatenate([text, [super().generate(text, 3)]], axis=1)
        return text[0, start:].tolist()
