"""How far Goodput drafts: as far as one more drafted token still raises the expected tokens per second.

Two machines are simulated, one where a pass over 16 tokens takes as long as one over a single token, one where every
token costs half a pass more. No weights are needed.

    python examples/goodput.py
"""

import numpy as np

import outrider

MACHINES = {"flat": {1: 0.020, 17: 0.020}, "steep": {1: 0.010, 17: 0.090}}  # seconds of a pass, by its tokens

if __name__ == "__main__":
    for name, seconds in MACHINES.items():
        for chance in (0.95, 0.7, 0.1):
            costs = outrider.CostCurve({(1, tokens): each for tokens, each in seconds.items()})
            policy, draws, planned = outrider.Goodput(costs=costs), np.random.default_rng(0), []
            for _ in range(400):
                (lookahead,) = policy.plan(["the text"])
                wrong = np.flatnonzero(draws.random(lookahead) >= chance)
                accepted = int(wrong[0]) if len(wrong) else lookahead
                policy.observe([outrider.Outcome("the text", lookahead, lookahead, accepted)], None)
                planned.append(lookahead)
            print(f"{name:5} machine, {chance:.0%} accepted: {np.mean(planned[200:]):.1f} tokens drafted per round")
