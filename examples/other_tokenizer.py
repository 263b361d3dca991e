"""A draft model with another tokenizer than the target. Under the rule `coupled` the text is the same whatever drafts,
up to the rounding of the models' arithmetic.

    python examples/other_tokenizer.py DRAFT_MODEL [TARGET_MODEL]
"""

import sys

import outrider

if __name__ == "__main__":
    draft = outrider.load(sys.argv[1])
    target = outrider.load(sys.argv[2] if len(sys.argv) > 2 else "smollm2")
    texts = set()
    for drafter in (None, outrider.IntersectionDrafter(draft, target), outrider.StringDrafter(draft, target)):
        decoder = outrider.SpeculativeDecoder(drafter, target, lookahead=4, rule="coupled")
        generation = decoder.chat("What is a leap year?", max_tokens=60, temperature=0.7, seed=1)
        texts.add(generation.text)
        name = "no drafter" if drafter is None else drafter.name
        print(f"{name}: {generation.stats.mean_tokens_per_round:.2f} tokens per round")
    print(texts.pop())
    print("the same text:", not texts)
