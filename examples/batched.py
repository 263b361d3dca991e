"""Decode several prompts at once: their rows share the target's passes, and each draws what it would draw alone.

python examples/batched.py
"""

import outrider

QUESTIONS = ["Name three rivers.", "What is a haiku?", "Count from one to ten in words.", "Why is the sky blue?"]

if __name__ == "__main__":
    target = outrider.load("smollm2")
    prompts = [[{"role": "user", "content": question}] for question in QUESTIONS]
    outputs = outrider.batched_speculative_decode(
        prompts,
        outrider.SuffixDrafter(),
        target,
        max_tokens=40,
        temperature=0,
        max_rows=2,  # the next prompt takes the row of one that has ended
    )
    for question, tokens in zip(QUESTIONS, outputs, strict=True):
        print(f"--- {question}\n{target.tokenizer.decode(tokens)}\n")
