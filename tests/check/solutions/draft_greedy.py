"""The draft is the most probable token."""

import numpy as np
import right_numpy as right


class SpeculativeDecoder(right.SpeculativeDecoder):
    def draft_generation(self, prompt_tokens, num_tokens):
        text, out = prompt_tokens, []
        for _ in range(num_tokens):
            out.append(int(self.draft_model(text)[0, -1].argmax()))
            text = np.concatenate([text, [[out[-1]]]], axis=1)
        return out
