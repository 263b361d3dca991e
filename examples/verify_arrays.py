"""verify_speculation on bare arrays: NumPy here; PyTorch tensors and MLX arrays work the same.

Many draws show that the emitted token has the target's distribution although the drafter's is quite another one.

    python examples/verify_arrays.py
"""

import numpy as np

import outrider

generator = np.random.default_rng(0)
target_logits = np.array([[2.0, 1.0, 0.0, -1.0], [0.0, 0.0, 1.0, 1.0]], dtype=np.float32)
draft_logits = np.array([[-1.0, 0.0, 1.0, 2.0]], dtype=np.float32)
p = np.exp(target_logits[0]) / np.exp(target_logits[0]).sum()
q = np.exp(draft_logits[0]) / np.exp(draft_logits[0]).sum()

counts = np.zeros(4)
accepted = 0
for seed in range(20_000):
    draft = generator.choice(4, p=q)
    num_accepted, tokens = outrider.verify_speculation([int(draft)], target_logits, draft_logits, seed=seed)
    counts[tokens[0]] += 1
    accepted += num_accepted

print("target ", p.round(3))
print("emitted", (counts / counts.sum()).round(3))
print("drafter", q.round(3), f"- accepted in {accepted / 20_000:.0%} of cases")
