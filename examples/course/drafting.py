"""Task 1: the draft model runs ahead, and the whole loop.

One round: draft a few tokens with the small model, score them all with one call of the large one, keep what
verification keeps. A call of the large model costs much the same for five tokens as for one. That is the gain.

    python examples/course/drafting.py
"""

import numpy as np
from verification import draw, softmax, verify_speculation


class SpeculativeDecoder:
    """A model is a function: tokens [1, length] in, logits [1, length, vocab] out."""

    def __init__(self, draft_model, target_model, lookahead=4, eos_token_id=None):
        self.draft_model = draft_model
        self.target_model = target_model
        self.lookahead = lookahead
        self.eos_token_id = eos_token_id

    def draft_generation(self, prompt_tokens, num_tokens):
        """What the draft model would say next: num_tokens tokens, each drawn from softmax of its logits."""
        return self.draft(prompt_tokens, num_tokens)[0]

    def draft(self, prompt_tokens, num_tokens):
        """The same, with the logits [num_tokens, vocab] that each token was drawn from."""
        text = np.asarray(prompt_tokens).flatten().tolist()
        tokens, rows = [], []
        for _ in range(num_tokens):
            rows.append(
                self.draft_model(np.array([text + tokens]))[0, -1]
            )  # in MLX: mx.array, in PyTorch: torch.tensor
            tokens.append(draw(softmax(rows[-1])))
        return tokens, np.array(rows)

    def round(self, text):
        """Draft, score, verify: the tokens of one round, at least one, and how many draft tokens were accepted."""
        draft, draft_logits = self.draft(text, self.lookahead)
        # Row i predicts token i + 1: the row of the last token before the draft judges its first token.
        target_logits = self.target_model(np.array([text + draft]))[0, len(text) - 1 :]
        num_accepted, tokens = verify_speculation(draft, target_logits, draft_logits)
        return tokens, num_accepted

    def generate(self, prompt_tokens, max_tokens=100):
        """max_tokens new tokens, or fewer where the text ends. They are exactly as if the target had drawn each."""
        prompt = np.asarray(prompt_tokens).flatten().tolist()
        new = []
        while len(new) < max_tokens:
            tokens, _ = self.round(prompt + new)
            new += tokens
            if self.eos_token_id in new:  # wherever it stands: accepted draft tokens may hold it too
                return new[: new.index(self.eos_token_id) + 1][:max_tokens]
        return new[:max_tokens]


if __name__ == "__main__":
    from models import draft_model, target_model

    calls = []

    def counted(tokens):
        calls.append(1)
        return target_model(tokens)

    decoder = SpeculativeDecoder(draft_model, counted, lookahead=4)
    print("drafted  ", decoder.draft_generation([1, 5, 9], 4))
    print("generated", decoder.generate([1, 5, 9], 40))
    print(f"40 tokens in {len(calls)} calls of the target")
