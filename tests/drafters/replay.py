"""Saved greedy answers, drafted once more: what a drafter would have had accepted, without a model.

The answers are SmolLM2's own, to questions that it invented, with its eight most probable tokens before each of theirs.
Made by `outrider warm smollm2 --data DIR`. What the target would have said at rejected nodes is not known, so a drafter
that reads top tokens learns less here than it does in an engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from outrider import Budget, Draft, Drafter, Reading, SamplingParams
from outrider.maths.budget import FREE, Prices
from outrider.maths.draft import EMPTY, ROOT, Verdict
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import History
from outrider.runtimes.base import Top
from outrider.training.shards import Text, read_shards

ANSWERS = Path(__file__).parents[1] / "data" / "answers"
GREEDY = SamplingParams(temperature=0)
VOCAB_SIZE = 49_152
NOISE = RoundNoise(0, 0)  # nothing is drawn


@dataclass
class Replayed:
    """A sequence as drafters see it."""

    id: int
    tokens: list[int]
    predicted: tuple[int, ...] = ()
    sampling: SamplingParams = GREEDY
    noise: RoundNoise = NOISE
    isolation: None = None

    @property
    def history(self) -> History:
        return History(self.tokens)


@dataclass(frozen=True)
class Tally:
    tokens: int
    rounds: int
    drafted: int
    expected: float  # tokens accepted, by the drafts' own chances
    accepted: int

    @property
    def tokens_per_round(self) -> float:
        return self.tokens / self.rounds


def saved_answers() -> list[Text]:
    """Six answers that copy little, six that copy in between, six that copy much."""
    return list(read_shards(ANSWERS))


def replay(drafter: Drafter, texts: Sequence[Text], nodes: int = 16, prices: Prices = FREE) -> Tally:
    """All answers one after the other, each verified greedily."""
    drafter.prepare(1, 4096, VOCAB_SIZE)
    totals = [0, 0, 0, 0.0, 0]
    for number, text in enumerate(texts):
        for part, count in enumerate(_one(drafter, text, number, Budget(nodes, nodes, prices))):
            totals[part] += count
    return Tally(*totals)


def _one(drafter: Drafter, text: Text, number: int, budget: Budget) -> tuple[int, int, int, float, int]:
    sequence = Replayed(number, list(text.tokens[: text.prompt]))
    drafter.read([sequence], [_reading(drafter, text, 0, sequence.tokens, EMPTY)])
    done = text.prompt + 1
    sequence.tokens = list(text.tokens[:done])
    rounds = drafted = accepted = 0
    expected = 0.0
    while done < len(text.tokens):
        draft = drafter.propose([sequence], [budget])[0]
        path = _accepted(draft, text.tokens[done : len(text.tokens) - 1])
        told = Draft(tuple(draft.tokens[node] for node in path))
        drafter.read([sequence], [_reading(drafter, text, done - 1, [text.tokens[done - 1], *told.tokens], told)])
        done += len(path) + 1
        sequence.tokens = list(text.tokens[:done])
        drafter.observe(sequence, draft, Verdict(tuple(path), text.tokens[done - 1], bonus=False))
        rounds += 1
        drafted += len(draft)
        accepted += len(path)
        expected += sum(draft.chances or ())
    drafter.forget(sequence)
    return rounds + accepted, rounds, drafted, expected, accepted


def _accepted(draft: Draft, coming: Sequence[int]) -> list[int]:
    path: list[int] = []
    node = ROOT
    for token in coming:
        node = next((child for child in draft.children(node) if draft.tokens[child] == token), ROOT)
        if node == ROOT:
            break
        path.append(node)
    return path


def _reading(drafter: Drafter, text: Text, start: int, fed: list[int], draft: Draft) -> Reading:
    count = drafter.wants.top
    # A head of these tests (knowing_head.py) reads places in place of states.
    hidden = tuple(np.arange(start, start + len(fed), dtype=np.float32)[:, None] for _ in drafter.wants.hidden)
    if not count:
        return Reading(start, fed, draft, hidden)
    first = start + len(fed) - 1 - len(draft) - (text.prompt - 1)
    rows = slice(first, first + 1 + len(draft))
    return Reading(start, fed, draft, hidden, Top(text.top[rows, :count], text.probabilities[rows, :count]))
