"""Drafts of every kind and settings of every kind, to be judged on a device and on the host."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from outrider import Draft, SamplingParams
from outrider.engine.judgement import judge
from outrider.maths.draft import CHOSEN, Trial, Verdict
from outrider.maths.noise import RoundNoise
from outrider.maths.rules import Rule
from outrider.maths.sampling import History
from outrider.runtimes.judging import Case
from outrider.runtimes.torch.cuda.device import Host
from outrider.runtimes.torch.cuda.verdicts.judge import DeviceJudge

VOCAB = 7
SAMPLINGS = [
    SamplingParams(),
    SamplingParams(temperature=0.6),
    SamplingParams(top_k=3),
    SamplingParams(temperature=1.3, top_p=0.8),
    SamplingParams(min_p=0.2),
    SamplingParams(temperature=0.8, top_k=5, top_p=0.9, min_p=0.05),
    SamplingParams(temperature=0),
    SamplingParams(temperature=0.7, repetition_penalty=1.4, presence_penalty=0.3),
    SamplingParams(frequency_penalty=0.5, logit_bias={2: 1.5, 5: -3.0}),
    SamplingParams(temperature=0, repetition_penalty=2.0),
]


@dataclass
class Row:
    """What a verdict depends on besides draft and logits."""

    noise: RoundNoise
    sampling: SamplingParams
    history: History = field(default_factory=lambda: History([]))


def chain_of(random: np.random.Generator, count: int, kind: str) -> Draft:
    """Tokens that were chosen, drawn, or some of each; q has rows that no token was drawn from."""
    tokens = tuple(random.integers(VOCAB, size=count).tolist())
    if kind == "chosen" or not count:
        return Draft(tokens)
    q = random.dirichlet(np.full(VOCAB, 0.7), size=count + 1).astype(np.float32)
    if kind == "drawn":
        return Draft(tokens, q=q)
    rows = [CHOSEN if random.random() < 0.4 else int(row) for row in random.permutation(count + 1)[:count]]
    return Draft(tokens, q=q, q_rows=tuple(rows))


def tree_of(random: np.random.Generator, count: int, kind: str) -> Draft:
    """A tree. Siblings that were drawn are of one row of q, without replacement; or of several drafters, of which each
    may have drawn what another one did."""
    parents = tuple(int(random.integers(-1, node)) for node in range(count))
    if kind == "chosen" or not count:
        return Draft(tuple(random.integers(VOCAB, size=count).tolist()), parents)
    q = random.dirichlet(np.full(VOCAB, 0.7), size=count + 1).astype(np.float32)
    tokens = list[int]()
    for node, parent in enumerate(parents):
        taken = [tokens[other] for other in range(node) if parents[other] == parent]
        left = [token for token in range(VOCAB) if token not in taken] or list(range(VOCAB))
        tokens.append(int(random.choice(left)))
    rows = [CHOSEN if kind == "some" and random.random() < 0.3 else parent + 1 for parent in parents]
    if kind != "trials":
        return Draft(tuple(tokens), parents, q=q, q_rows=tuple(rows))
    trials = [Trial(node, rows[node]) for node in range(count)]
    again = [Trial(int(node), int(random.integers(-1, count + 1))) for node in random.integers(count, size=2)]
    return Draft(tuple(tokens), parents, q=q, trials=(*trials, *again))


def cases_of(drafts: Sequence[Draft], rows: Sequence[Row]) -> list[Case]:
    first, cases = 0, []
    for draft, row in zip(drafts, rows, strict=True):
        cases.append(Case(draft, first, row.sampling, row.history, row.noise))
        first += 1 + len(draft)
    return cases


def judge_on_device(
    rule: Rule, drafts: Sequence[Draft], logits: torch.Tensor, rows: Sequence[Row]
) -> list[Verdict | None]:
    return DeviceJudge(Host()).launch([rule] * len(drafts), cases_of(drafts, rows), logits)()


def judge_on_host(rule: Rule, drafts: Sequence[Draft], logits: torch.Tensor, rows: Sequence[Row]) -> list[Verdict]:
    return [
        judge(case.draft, logits[case.first : case.first + 1 + len(case.draft)], case.sampling, case.history, rule,
              case.noise)
        for case in cases_of(drafts, rows)
    ]  # fmt: skip


def random_logits(random: np.random.Generator, drafts: Sequence[Draft]) -> torch.Tensor:
    shape = (sum(1 + len(draft) for draft in drafts), VOCAB)
    return torch.from_numpy(random.normal(size=shape).astype(np.float32)) * 1.5


def random_rows(random: np.random.Generator, rule: Rule, samplings: Sequence[SamplingParams]) -> list[Row]:
    rows = []
    for number, sampling in enumerate(samplings):
        history = History(random.integers(VOCAB, size=3).tolist())
        history.extend(random.integers(VOCAB, size=2).tolist())
        rows.append(Row(RoundNoise(int(random.integers(2**40)), 5 + number, rule.shares_noise), sampling, history))
    return rows
