"""Answer a conversation several times over, and say how sure the model was of each first token.

python examples/chat.py
"""

import math

import outrider

if __name__ == "__main__":
    decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), "smollm2", lookahead=None)
    messages = [{"role": "user", "content": "Name a river in Africa, in one word."}]
    answers = decoder.chat(messages, n=4, max_tokens=12, temperature=0.8, seed=1, logprobs=3)
    for answer in answers:
        print(f"{answer.text!r}, {answer.finish_reason}, seed {answer.seed}")
    print("the first token would be:")
    for token, logprob in answers[0].top_logprobs[0].items():
        print(f"  {decoder.tokenizer.decode([token])!r} with {math.exp(logprob):.0%}")
