"""Several drafters at once, whose drafts become one tree."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from outrider.drafters.base import DraftedSequence
from outrider.drafters.several.accounts import Account
from outrider.drafters.several.base import Several, seen
from outrider.drafters.several.habits import Habit
from outrider.drafters.several.joining import NodeMap, experience_of, join
from outrider.drafters.several.selection import best_of
from outrider.maths.budget import Budget
from outrider.maths.draft import EMPTY, ROOT, Draft, Verdict

STEP = 0.1  # of the EMA of seconds per token
OUTLIER = 4.0  # times the EMA: longer times are clipped to it, since another program held the round up


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
    """All drafters propose, and the likeliest of all proposals become one tree.

    Each drafter may fill the whole budget; of the tokens that were chosen, not drawn, those with the largest chances
    are taken, whoever proposed them (selection.py), as long as they are worth their price. So no drafter takes room
    from one that knows better. Drawn tokens cannot be picked by what they are: drafters that draw get equal parts of
    the budget, and their tokens are tried first.

    Every node knows who proposed it. An accepted token is credited to the quickest of its proposers; a drafter that
    takes longer than decoding its accepted tokens would take is rested, and probed from time to time.

    Args:
        drafters: where chances are equal, the first ones' tokens are preferred.
        rests: False asks all of them in every round, so that what is drafted depends on no measured time.
        clock: seconds.
        name: default theirs, joined by a plus.

    Attributes:
        accounts: of each drafter.

    Raises:
        SettingError: no drafter, or too many.
    """

    trees = True
    estimates = True

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
        self._habits = [Habit() for _ in drafters]
        self._choose: set[int] = set()  # the drafters that choose their tokens even where the target samples
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
        drafts: list[list[Draft]] = [[] for _ in sequences]  # of each sequence, by those who were asked
        for number in asked:
            parts = [self._part(number, s, budget, asked) for s, budget in zip(sequences, budgets, strict=True)]
            for own, draft in zip(drafts, self._ask(number, sequences, drafts, parts), strict=True):
                own.append(draft)
        self._drop_surprising(asked, drafts)
        self._learn_who_chooses(asked, sequences, drafts)
        return [
            self._join(sequence, asked, own, budget)
            for sequence, own, budget in zip(sequences, drafts, budgets, strict=True)
        ]

    def observe(self, sequence: DraftedSequence, draft: Draft, verdict: Verdict) -> None:
        parts = self._round.parts.get(sequence.id, [])
        for node in verdict.path:
            proposers = [part.number for part in parts if node in part.nodes.values()]
            quickest = min(proposers, key=lambda number: self.accounts[number].seconds_per_round)
            self._round.credit[quickest] = self._round.credit.get(quickest, 0) + 1
        for part in parts:
            self._habits[part.number].learn(part.draft, part.verdict(verdict).accepted)
            if self.drafters[part.number] is not None:
                self._tell(part, sequence, verdict)

    def forget(self, sequence: DraftedSequence) -> None:
        super().forget(sequence)
        self._lengths.pop(sequence.id, None)

    def _part(self, number: int, sequence: DraftedSequence, budget: Budget, asked: Sequence[int]) -> Budget:
        """How much one drafter may propose. It must not depend on what others draw in the same round."""
        nodes = budget.nodes
        if not sequence.sampling.greedy and number not in self._choose:
            drawing = [other for other in asked if other not in self._choose]
            shares = len(drawing) + (len(drawing) < len(asked))
            nodes = nodes // shares + (drawing.index(number) < nodes % shares)  # the first of them get the odd ones
        drafter = self.drafters[number]
        if drafter is not None and not drafter.estimates and not drafter.trees:
            # It ignores prices; at least one token is asked for, so that its acceptance is known.
            longest = self._habits[number].chain(min(nodes, budget.depth))
            nodes = min(nodes, max(budget.prices.worthwhile(longest), 1))
        return Budget(nodes, budget.depth, budget.prices)

    def _drop_surprising(self, asked: Sequence[int], drafts: Sequence[list[Draft]]) -> None:
        """Those that begin to draw had more than their part: their drafts are left out, whatever is in them."""
        surprising = set()
        for own in drafts:
            for index, number in enumerate(asked):
                if own[index].q is not None and number in self._choose:
                    surprising.add(number)
                    own[index] = Draft(experience=own[index].experience)
        self._choose -= surprising

    def _learn_who_chooses(
        self, asked: Sequence[int], sequences: Sequence[DraftedSequence], drafts: Sequence[Sequence[Draft]]
    ) -> None:
        for sequence, own in zip(sequences, drafts, strict=True):
            if not sequence.sampling.greedy:
                for number, draft in zip(asked, own, strict=True):
                    if draft.q is not None:
                        self._choose.discard(number)
                    elif len(draft):
                        self._choose.add(number)

    def _ask(
        self,
        number: int,
        sequences: Sequence[DraftedSequence],
        before: Sequence[Sequence[Draft]],
        budgets: Sequence[Budget],
    ) -> Sequence[Draft]:
        """One drafter's drafts, and how long they took it.

        Args:
            before: for each sequence the drafts of those who were asked before. What they learned from other texts must
                not depend on the noise that this one draws with.
        """
        each = [
            seen(sequence, sequence.noise.knowing(experience_of(others)).of_drafter(number))
            for sequence, others in zip(sequences, before, strict=True)
        ]
        started = self._clock()
        drafts = self.call(number, lambda drafter: drafter.propose(each, budgets))
        self._round.seconds[number] = self._clock() - started
        return [EMPTY] * len(sequences) if drafts is None else drafts

    def _join(self, sequence: DraftedSequence, asked: Sequence[int], drafts: Sequence[Draft], budget: Budget) -> Draft:
        drawn = [index for index, draft in enumerate(drafts) if draft.q is not None]
        chosen = [index for index, draft in enumerate(drafts) if draft.q is None]
        spent = sum(len(drafts[index]) for index in drawn)
        left = Budget(max(budget.nodes - spent, 0), budget.depth, budget.prices.beyond(spent))
        best, picked = best_of(
            [drafts[index] for index in chosen],
            [self._habits[asked[index]].chances(drafts[index]) for index in chosen],
            left,
        )
        best = best.knowing(experience_of(drafts[index] for index in chosen))
        tree, joined = join([*(drafts[index] for index in drawn), best])
        nodes = dict(zip(drawn, joined, strict=False))
        for index, own in zip(chosen, picked, strict=True):
            nodes[index] = {node: joined[-1][name] for node, name in own.items()}
        self._round.parts[sequence.id] = [
            _Part(asked[index], draft, nodes[index]) for index, draft in enumerate(drafts)
        ]
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
