"""Several drafters at once, whose drafts become one tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.several.accounts import Account
from outrider.drafters.several.base import Several
from outrider.drafters.several.joining import NodeMap, join
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft, Verdict
from outrider.maths.noise import RoundNoise
from outrider.maths.sampling import History, SamplingParams

STEP = 0.1  # of the EMA of seconds per token
OUTLIER = 4.0  # times the EMA: a round that was held up says little


@dataclass(frozen=True, slots=True)
class _Seen:
    """A sequence as one of several drafters sees it: with draws of its own."""

    id: int
    tokens: Sequence[int]
    predicted: Sequence[int]
    sampling: SamplingParams
    history: History
    noise: RoundNoise


def _seen_by(number: int, sequence: DraftedSequence) -> _Seen:
    return _Seen(
        sequence.id,
        sequence.tokens,
        sequence.predicted,
        sequence.sampling,
        sequence.history,
        sequence.noise.of_drafter(number),
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """What one drafter put into a tree.

    Attributes:
        number: of the drafter.
        draft: its own.
        nodes: the nodes of the joined tree that its own nodes became.
    """

    number: int
    draft: Draft
    nodes: NodeMap

    def verdict(self, verdict: Verdict) -> Verdict:
        """What became of this part: the accepted path as far as it leads through it."""
        own = {joined: node for node, joined in self.nodes.items() if node != ROOT}
        path = []
        for node in verdict.path:
            if node not in own:
                break
            path.append(own[node])
        leaf = path[-1] if path else ROOT
        return Verdict(tuple(path), verdict.token, bonus=verdict.bonus and not self.draft.children(leaf))


@dataclass(slots=True)
class _Round:
    """What the drafters did in one round, for their accounts.

    Attributes:
        seconds: by drafter.
        parts: by sequence.
        credit: by drafter.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    parts: dict[int, list[_Part]] = field(default_factory=dict)
    credit: dict[int, int] = field(default_factory=dict)


class Merged(Several):
    """All drafters propose, and what they propose becomes one tree, shared prefixes once.

    The budget is dealt out in the order of the drafters: each may spend an equal part of what those before it left, so
    that the next one gets what it does not need. Every node knows who proposed it. An accepted token is credited to the
    quickest of its proposers; a drafter that takes longer than decoding its accepted tokens would take is rested, and
    probed from time to time.

    Args:
        drafters: the first ones' children are tried first.
        rests: False asks all of them in every round, so that what is drafted depends on no measured time.
        clock: seconds.
        name: default theirs, joined by a plus.

    Attributes:
        accounts: of each drafter.

    Raises:
        SettingError: no drafter, or too many.
    """

    trees = True

    def __init__(
        self,
        drafters: Sequence[Any],
        *,
        rests: bool = True,
        clock: Callable[[], float] = time.perf_counter,
        name: str | None = None,
    ) -> None:
        super().__init__(drafters, name)
        self.accounts = [Account() for _ in drafters]
        self._rests = rests
        self._clock = clock
        self._round = _Round()
        self._started: float | None = None
        self._lengths: dict[int, int] = {}
        self._seconds_per_token = 0.0

    def propose(self, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> list[Draft]:
        self._account_for_the_last_round(sequences)
        self._round = _Round()
        if not any(budget.longest > 0 for budget in budgets):
            return [EMPTY] * len(sequences)
        asked = self._who_is_asked()
        left = [budget.nodes for budget in budgets]
        drafts: list[list[Draft]] = [[] for _ in sequences]  # of each sequence, by those who were asked
        for turn, number in enumerate(asked):
            # Rounded up: the first of them get the odd node.
            parts = [
                Budget(-(-nodes // (len(asked) - turn)), budget.depth)
                for nodes, budget in zip(left, budgets, strict=True)
            ]
            for index, draft in enumerate(self._ask(number, sequences, parts)):
                drafts[index].append(draft)
                left[index] -= len(draft)
        return [self._join(sequence, asked, own) for sequence, own in zip(sequences, drafts, strict=True)]

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        parts = self._round.parts.get(sequence.id, [])
        for node in verdict.path:
            proposers = [part.number for part in parts if node in part.nodes.values()]
            quickest = min(proposers, key=lambda number: self.accounts[number].seconds_per_round)
            self._round.credit[quickest] = self._round.credit.get(quickest, 0) + 1
        for part in parts:
            if self.drafters[part.number] is not None:
                self._tell(part, sequence, verdict)

    def forget(self, sequence: DraftedSequence) -> None:
        super().forget(sequence)
        self._lengths.pop(sequence.id, None)

    def _ask(self, number: int, sequences: Sequence[DraftedSequence], budgets: Sequence[Budget]) -> Sequence[Draft]:
        """One drafter's drafts, and how long they took it."""
        seen = [_seen_by(number, sequence) for sequence in sequences]
        started = self._clock()
        drafts = self.call(number, lambda drafter: drafter.propose(seen, budgets))
        self._round.seconds[number] = self._clock() - started
        return [EMPTY] * len(sequences) if drafts is None else drafts

    def _join(self, sequence: DraftedSequence, asked: Sequence[int], drafts: Sequence[Draft]) -> Draft:
        tree, nodes = join(drafts)
        self._round.parts[sequence.id] = [_Part(*part) for part in zip(asked, drafts, nodes, strict=True)]
        return tree

    def _tell(self, part: _Part, sequence: DraftedSequence, verdict: Verdict) -> None:
        own = part.verdict(verdict)
        self.call(part.number, lambda drafter: drafter.observe(sequence, part.draft, own))

    def _who_is_asked(self) -> list[int]:
        present = self.present
        if not self._rests:
            return present
        asked = [number for number in present if not self.accounts[number].resting]
        for number in present:
            if self.accounts[number].resting:
                self.accounts[number].pass_by()
        return asked

    def _account_for_the_last_round(self, sequences: Sequence[DraftedSequence]) -> None:
        """Only now is it known how long the round took and what it emitted."""
        now = self._clock()
        emitted = sum(len(s.tokens) - self._lengths.get(s.id, len(s.tokens)) for s in sequences)
        if self._started is not None and emitted:
            self._learn_seconds_per_token((now - self._started) / emitted)
            for number, seconds in self._round.seconds.items():
                self.accounts[number].add(self._round.credit.get(number, 0), seconds, self._seconds_per_token)
        self._started = now
        self._lengths = {sequence.id: len(sequence.tokens) for sequence in sequences}

    def _learn_seconds_per_token(self, seconds: float) -> None:
        if self._seconds_per_token:
            seconds = min(seconds, OUTLIER * self._seconds_per_token)
            self._seconds_per_token += STEP * (seconds - self._seconds_per_token)
        else:
            self._seconds_per_token = seconds
