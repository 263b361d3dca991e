"""Compares every draft of a head with a reference, over texts side by side, some of whose rounds draft nothing."""

import random

import numpy as np

from outrider import Engine, Request, SamplingParams
from outrider.lookahead import LookaheadPolicy
from outrider.maths.arrays import to_numpy
from tiny import heads as tiny_heads

PROMPTS = ((3, 1, 2), (0, 2, 1, 1, 3, 7, 2, 1, 1), (2,), (8, 8, 0, 4))
TOLERANCE = 2e-5


class Moody(LookaheadPolicy):
    """Drafts in some rounds only, and not in the same ones for all texts."""

    def __init__(self, most, seed=0):
        self._most = most
        self._generator = random.Random(seed)

    def plan(self, sequences):
        return [self._generator.choice([0, 0, 1, 2, self._most]) for _ in sequences]


class Witness:
    """Compares every draft with the reference, which reads the text from its start or from the token `since`."""

    def __init__(self, drafter, reference, state_of, since=0):
        self.seen = 0
        self.worst = 0.0
        self._reference, self._state_of, self._since = reference, state_of, since
        propose = drafter.propose

        def watched(sequences, budgets):
            drafts = propose(sequences, budgets)
            for sequence, budget, draft in zip(sequences, budgets, drafts, strict=True):
                assert not (budget.longest and len(sequence.tokens) > 1) or len(draft)
                self._compare(list(sequence.tokens), sequence.sampling, draft)
            return drafts

        drafter.propose = watched

    def _compare(self, text, sampling, draft):
        states = [self._state_of(text[: end + 1]) for end in range(self._since, len(text) - 1)]
        for node in range(len(draft)):
            above = [draft.tokens[each] for each in draft.path(node)[:-1]]
            logits = self._reference.logits_after(text[self._since :], states, above)
            self.seen += 1
            if draft.q is None:
                rank = int((logits > logits[draft.tokens[node]] + TOLERANCE).sum())
                self.worst = max(self.worst, float(rank >= len(draft.children(draft.parent(node)))))
            else:
                weights = np.exp((logits - logits.max()) / sampling.temperature)
                q = to_numpy(draft.q[draft.q_row(node)])
                self.worst = max(self.worst, float(np.abs(q - weights / weights.sum()).max()))


def state_of_table(target, layers=tiny_heads.LAYERS):
    return lambda context: np.concatenate([target.state(layer, context) for layer in layers])


def course(drafter, target, reference, *, temperature=0.8, rows=2, state_of=None, most=5, tokens=14) -> Witness:
    """Texts side by side, some of whose rounds draft nothing."""
    witness = Witness(drafter, reference, state_of or state_of_table(target))
    engine = Engine(target, drafter, lookahead=Moody(most), max_rows=rows, capacity=64)
    handles = [
        engine.submit(Request(prompt, tokens, SamplingParams(temperature=temperature, seed=seed)))
        for seed, prompt in enumerate(PROMPTS)
    ]
    while not engine.idle:
        engine.step()
    assert all(handle.error is None for handle in handles)
    assert engine.drafter_failures == 0
    assert witness.seen > 30
    return witness
