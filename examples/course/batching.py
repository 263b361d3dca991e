"""Task 4: many prompts. Each row has its own text, its own length and its own lookahead.

The two usual mistakes: rows that are cut to the shortest accepted draft, and rows that read the padding of others. A
real engine scores all rows with one call; what it must not change is what each row reads. Here a row is a decoder.

    python examples/course/batching.py
"""

from adaptive import AdaptiveSpeculator
from drafting import SpeculativeDecoder
from verification import verify_speculation

__all__ = ["AdaptiveSpeculator", "SpeculativeDecoder", "batched_speculative_decode", "verify_speculation"]


class Row:
    """One prompt and what has come of it."""

    def __init__(self, prompt, draft_model, target_model, eos_token_id):
        self.prompt = list(prompt)
        self.new = []
        self.ended = False
        self.eos_token_id = eos_token_id
        self.decoder = SpeculativeDecoder(draft_model, target_model)
        self.speculator = AdaptiveSpeculator()

    def step(self, max_tokens):
        """One round."""
        drafted = self.decoder.lookahead
        tokens, num_accepted = self.decoder.round(self.prompt + self.new)
        self.new = (self.new + tokens)[:max_tokens]
        self.decoder.lookahead = self.speculator.update_lookahead(num_accepted / drafted)
        if self.eos_token_id in self.new:
            self.new = self.new[: self.new.index(self.eos_token_id) + 1]
            self.ended = True
        self.ended = self.ended or len(self.new) == max_tokens


def batched_speculative_decode(batch_prompts, draft_model, target_model, max_tokens=100, eos_token_id=None):
    """For each prompt its new tokens."""
    rows = [Row(prompt, draft_model, target_model, eos_token_id) for prompt in batch_prompts]
    while any(not row.ended for row in rows):
        for row in rows:
            if not row.ended:  # a finished row makes room, it does not wait for the others
                row.step(max_tokens)
    return [row.new for row in rows]


if __name__ == "__main__":
    from models import draft_model, target_model

    prompts = [[1, 5, 9], [4, 4]]
    for prompt, new in zip(prompts, batched_speculative_decode(prompts, draft_model, target_model, 20), strict=True):
        print(prompt, "->", new)
