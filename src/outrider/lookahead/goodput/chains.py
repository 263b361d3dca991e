"""Goodput for chains: how many tokens each sequence drafts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial

import numpy as np

from outrider.lookahead.costs.passes import CostCurve
from outrider.lookahead.goodput.alone import best_length, least_loss
from outrider.lookahead.goodput.best_stop import best_stop
from outrider.lookahead.goodput.learning import Learner
from outrider.lookahead.goodput.probing import Patience, Probing
from outrider.lookahead.goodput.survival import Survival
from outrider.lookahead.policy import Outcome
from outrider.maths.arrays import HostFloats

LONGEST_WAIT = 128  # plain rounds between two probes, at the most
PROBE_SHARE = 0.005  # exploration may lose this share of all tokens
HOPE = 0.5  # optimism bonus (UCB) on acceptance where a sequence explores, in standard deviations
COST_HOPE = 0.12  # optimism bonus on costs: a pass of a size never run may be cheaper by this share


class ChainGoodput(Learner[Probing]):
    """Plans the lengths of chains.

    For sequence s, S_s(i) is the chance that its draft is accepted up to position i, and D_s(i) the chance that its
    drafter goes that far. Lookaheads k_s emit sum_s (1 + sum_{i <= k_s} S_s(i)) tokens. The round takes the time of
    drafting, of a forward pass over sum_s (1 + sum_{i <= k_s} D_s(i)) tokens, and of everything else. Tokens are added
    in the order of their S, and the plan is the prefix with the best quotient. `survival.py` estimates S and D.

    Where 0 wins, nothing is learned about acceptance any more, so the sequence explores. It probes the lookahead that
    would lose least, sooner the less that is. After a probe that did not change the verdict it waits twice as long.

    Args:
        most: tokens of the longest chain.
    """

    def __init__(self, most: int) -> None:
        super().__init__(partial(Probing, Patience(LONGEST_WAIT)))
        self._survival = Survival(most)
        self._longest = np.array(_longest_to_try(most))

    def plan(self, sequences: Sequence[Hashable], costs: CostCurve) -> list[int]:
        """The length of each sequence's chain; 0 decodes plainly."""
        if len(sequences) == 1:
            return [self._plan_one(sequences[0], costs)]
        survives, drafts = self._survival.predict(sequences)
        rows, positions = survives.shape
        seconds = costs.table(rows, rows * (1 + positions), hope=COST_HOPE)
        lengths, rate = self._best(survives, drafts, seconds)
        probing = [self._sequences[sequence] for sequence in sequences]
        for each, length in zip(probing, lengths, strict=True):
            each.plan(pays=length > 0)
        if any(not length and each.idle for length, each in zip(lengths, probing, strict=True)):
            self._probe(sequences, lengths, drafts, seconds, rate)
        return lengths

    def expected(self, sequence: Hashable) -> HostFloats:
        """[most]: the chance that a chain of this sequence is accepted up to each position."""
        return np.asarray(self._survival.accepted([sequence])[0])

    def explores(self, sequence: Hashable) -> bool:
        """Whether the planned chain is a probe."""
        return sequence in self._sequences and self._sequences[sequence].now

    def forget(self, sequence: Hashable) -> None:
        super().forget(sequence)
        self._survival.forget(sequence)

    def _learn_acceptance(self, outcomes: Sequence[Outcome]) -> None:
        self._survival.learn(outcomes)
        for outcome in outcomes:
            self._sequences[outcome.sequence].learn(outcome.planned > 0, outcome.accepted)

    def _plan_one(self, sequence: Hashable, costs: CostCurve) -> int:
        survives, drafts = self._survival.predict_one(sequence)
        seconds = costs.short_table(1, 1 + len(drafts), hope=COST_HOPE)
        prices = self.draft_cost.prices
        length, rate = best_length(survives, drafts, seconds, prices, self.overhead.value)
        probing = self._sequences[sequence]
        probing.plan(pays=length > 0)
        if not length and probing.idle:
            hopes = self._survival.accepted_one(sequence, HOPE)
            least, loss = least_loss(hopes, drafts, seconds, prices, rate)
            if _due(probing, loss):
                probing.now = True
                return least
        return length

    def _best(self, survives: HostFloats, drafts: HostFloats, seconds: HostFloats) -> tuple[list[int], float]:
        """The length of each sequence's chain, and the expected tokens per second of them all.

        Args:
            survives, drafts: S and D, [sequences, positions].
            seconds: of passes over 0, 1, ... tokens.
        """
        rows = len(survives)
        # Position by position, so that at equal chances an earlier position comes first.
        order = np.argsort(-survives.T.ravel(), kind="stable")
        depths = order // rows
        # The longest chain sets how many passes a draft model makes, so several bounds on it compete.
        within = depths < self._longest[:, None]
        gains = survives.T.ravel()[order] * within
        drafted = np.cumsum(drafts.T.ravel()[order] * within, axis=1)
        passes = np.interp(rows + drafted, np.arange(len(seconds)), seconds)
        reached = drafts.max(axis=0).cumsum()[np.maximum.accumulate(depths * within, axis=1)]
        bound, last, rate = best_stop(rows, gains, self._drafting(reached, drafted), passes, self.overhead.value)
        plain = float(rows / (seconds[rows] + self.overhead.value))
        if rate <= plain:
            return [0] * rows, plain
        taken = order[: last + 1][within[bound, : last + 1]]
        return np.bincount(taken % rows, minlength=rows).tolist(), rate

    def _drafting(self, longest: HostFloats, tokens: HostFloats) -> HostFloats:
        """Seconds of drafting so many tokens, `longest` of them in one chain."""
        call, position, token = self.draft_cost.prices
        return call + position * longest + token * tokens

    def _probe(
        self,
        sequences: Sequence[Hashable],
        lengths: list[int],
        drafts: HostFloats,
        seconds: HostFloats,
        rate: float,
    ) -> None:
        """Plan a probe for those of the idle sequences whose time has come."""
        hopes = self._survival.accepted(sequences, HOPE).cumsum(axis=1)
        losses = self._tokens_missed(drafts, lengths, seconds, rate) - hopes
        for row, sequence in enumerate(sequences):
            probing = self._sequences[sequence]
            if not lengths[row] and probing.idle:
                least = int(losses[row].argmin())
                if _due(probing, float(losses[row, least])):
                    probing.now = True
                    lengths[row] = least + 1
                    # Beside a draft another one is cheaper.
                    losses = self._tokens_missed(drafts, lengths, seconds, rate) - hopes

    def _tokens_missed(
        self, drafts: HostFloats, lengths: Sequence[int], seconds: HostFloats, rate: float
    ) -> HostFloats:
        """[sequences, positions]: tokens that all could emit in the time that a sequence's draft would add."""
        rows, positions = drafts.shape
        call, position, token = self.draft_cost.prices
        longest = max(lengths)
        others = rows + float(drafts[np.arange(positions) < np.array(lengths)[:, None]].sum())
        drafted = drafts.cumsum(axis=1)
        counts = np.arange(len(seconds))
        added = np.interp(others + drafted, counts, seconds) - np.interp(others, counts, seconds)
        deeper = np.maximum(np.arange(1, positions + 1) - longest, 0)
        return np.asarray((added + token * drafted + position * deeper + (0.0 if longest else call)) * rate)


def _due(probing: Probing, loss: float) -> bool:
    """Whether it is time for a probe that would lose so many tokens."""
    return probing.idle >= min(probing.wait, loss / PROBE_SHARE)


def _longest_to_try(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16 ... up to `most`, itself included."""
    steps = [length for power in range(most.bit_length()) for length in (1 << power, 3 << power)]
    return sorted({length for length in steps if length < most} | {most})
