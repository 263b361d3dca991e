"""A drafter of your own: one method. The output is exact whatever it proposes.

This one remembers which token last followed which, and proposes accordingly.

    python examples/own_drafter.py
"""

import outrider


class BigramDrafter(outrider.Drafter):
    """Proposes the token that most recently followed the last one."""

    name = "bigram"

    def propose(self, sequences, budgets):
        return [self.draft_for(sequence, budget.longest) for sequence, budget in zip(sequences, budgets, strict=True)]

    def draft_for(self, sequence, longest):
        follows = dict(zip(sequence.tokens, sequence.tokens[1:], strict=False))
        draft = []
        token = sequence.tokens[-1]
        while len(draft) < longest and token in follows:
            token = follows[token]
            draft.append(token)
        return outrider.Draft(tuple(draft), source=self.name)


if __name__ == "__main__":
    target = outrider.load("smollm2")
    sampling = outrider.SamplingParams(temperature=0.7, seed=1)
    prompt = target.tokenizer.encode_chat(
        [{"role": "user", "content": "List the months of the year, with their days."}]
    )
    texts = []
    for drafter in (None, BigramDrafter()):
        decoder = outrider.SpeculativeDecoder(drafter, target, lookahead=4, rule="coupled")
        generation = decoder.generate(prompt, max_tokens=100, sampling=sampling)
        texts.append(generation.text)
        print(f"{generation.stats.mean_tokens_per_round:.2f} tokens per round")
    print(texts[1])
    print("the same text:", texts[0] == texts[1])
