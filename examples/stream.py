"""Stream an answer, and see where each token came from.

python examples/stream.py
"""

import outrider

decoder = outrider.SpeculativeDecoder(outrider.SuffixDrafter(), "smollm2", lookahead=None)
messages = [{"role": "user", "content": "Count from one to thirty in words."}]
with decoder.stream(messages, max_tokens=120, temperature=0) as stream:
    for event in stream:
        print(f"[{event.text}]" if event.origin is outrider.Origin.DRAFTED else event.text, end="", flush=True)
print(f"\n\n{stream.stats.mean_tokens_per_round:.2f} tokens per round; drafted ones are in brackets")
