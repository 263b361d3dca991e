"""Drafts are drawn at temperature 0.5, and judged as if at 1."""

import numpy as np
import right_numpy as right
from right_numpy import pick, softmax


class SpeculativeDecoder(right.SpeculativeDecoder):
    def draft_generation(self, prompt_tokens, num_tokens):
        text, out = prompt_tokens, []
        for _ in range(num_tokens):
            out.append(pick(softmax(self.draft_model(text)[0, -1] / 0.5)))
            text = np.concatenate([text, [[out[-1]]]], axis=1)
        return out
