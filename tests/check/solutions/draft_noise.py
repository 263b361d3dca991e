"""The uniform numbers that drew the draft judge it as well."""

import numpy as np
import right_numpy as right
from right_numpy import pick, softmax


class SpeculativeDecoder(right.SpeculativeDecoder):
    def generate(self, prompt_tokens, max_tokens=100):
        text = prompt_tokens[0].tolist()
        start = len(text)
        while len(text) < start + max_tokens:
            noise = right.rng.random(self.lookahead)
            draft = []
            for u in noise:
                q = softmax(self.draft_model(np.array([text + draft]))[0, -1])
                draft.append(min(int(np.searchsorted(np.cumsum(q), u)), len(q) - 1))
            full = np.array([text + draft])
            p = softmax(self.target_model(full)[0, len(text) - 1 :])
            q = softmax(self.draft_model(full)[0, len(text) - 1 :])
            for i, x in enumerate(draft):
                if noise[i] >= p[i, x] / q[i, x]:
                    text = text + draft[:i] + [pick(np.maximum(p[i] - q[i], 0))]
                    break
            else:
                text = text + draft + [pick(p[-1])]
        return text[start : start + max_tokens]
