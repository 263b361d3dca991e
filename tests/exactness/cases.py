"""Cases in which every pair of a rule, a drafter, a lookahead and a sampler setting occurs together."""

import random
from dataclasses import dataclass
from itertools import combinations, product

from exactness.drafters import DRAFTERS
from outrider import SamplingParams

SAMPLINGS: dict[str, SamplingParams] = {
    "temperature-1": SamplingParams(),
    "temperature-0.7": SamplingParams(temperature=0.7),
    "temperature-1.5": SamplingParams(temperature=1.5),
    "top-k": SamplingParams(temperature=1.5, top_k=2),
    "top-p": SamplingParams(top_p=0.8),
    "min-p": SamplingParams(temperature=0.7, min_p=0.15),
    "repetition": SamplingParams(repetition_penalty=1.6),
    "presence-frequency": SamplingParams(presence_penalty=0.7, frequency_penalty=0.4),
    "bias": SamplingParams(logit_bias={0: 1.0, 1: -1.5}),
    "everything": SamplingParams(
        temperature=1.5,
        top_k=4,
        top_p=0.95,
        min_p=0.05,
        repetition_penalty=1.2,
        presence_penalty=0.3,
        frequency_penalty=-0.3,
        logit_bias={2: 0.5},
    ),
}
FACTORS = (("token", "block", "coupled"), tuple(DRAFTERS), (1, 2, 3, 4, 5), tuple(SAMPLINGS))
# The lookahead of a tree is its number of nodes.
NODES_OF_TREE = {1: 2, 2: 3, 3: 4, 4: 6, 5: 12}


@dataclass(frozen=True)
class Case:
    rule: str
    drafter: str
    lookahead: int
    sampling: str

    @property
    def planned(self) -> int:
        return NODES_OF_TREE[self.lookahead] if self.drafter.startswith("tree") else self.lookahead

    def __str__(self) -> str:
        return f"{self.rule}-{self.drafter}-{self.lookahead}-{self.sampling}"


def possible(row: tuple) -> bool:
    return not (row[0] == "block" and row[1].startswith("tree"))


def pairs(row: tuple) -> set[tuple]:
    return set(combinations(enumerate(row), 2))


def all_pairs() -> set[tuple]:
    return set().union(*(pairs(row) for row in product(*FACTORS) if possible(row)))


def covering_cases() -> list[Case]:
    """Greedily: always the row that covers most of what is left. The same list in every process."""
    shuffled = [row for row in product(*FACTORS) if possible(row)]
    random.Random(0).shuffle(shuffled)
    missing = all_pairs()
    chosen = []
    while missing:
        best = max(shuffled, key=lambda row: len(pairs(row) & missing))
        missing -= pairs(best)
        chosen.append(Case(*best))
    return chosen


CASES = covering_cases()
