"""The best possible policy."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from benchmarks.simulation.scenario import LONGEST, Scenario, Texts
from outrider.lookahead import LookaheadPolicy
from outrider.maths.arrays import HostFloats


class Oracle(LookaheadPolicy):
    """Knows costs and chances, and maximises expected tokens over expected seconds of the coming round.

    For one row this is exact. For several rows it is exact if drafters do not stop by themselves: then, for a given
    longest draft and number of tokens, the likeliest tokens are the best ones.
    """

    def __init__(self, scenario: Scenario, texts: Texts) -> None:
        self._scenario = scenario
        self._texts = texts
        self._tables: dict[int, HostFloats] = {}

    def plan(self, sequences: Sequence[Hashable]) -> list[int]:
        survival = np.stack([self._texts.survival(int(str(text))) for text in sequences])
        return self._of_one(survival[0]) if len(sequences) == 1 else self._of_many(survival)

    def _of_one(self, survival: HostFloats) -> list[int]:
        scenario = self._scenario
        reach = scenario.drafting.reach
        drafted = np.arange(LONGEST + 1.0)
        seconds = self._table(1)[1:] + scenario.drafting.seconds(drafted, drafted)
        # With a lookahead of k the drafter drafts j < k tokens if it stops there, otherwise k.
        more = np.concatenate([[0.0], np.cumsum(reach * np.diff(seconds))])
        tokens = 1 + np.concatenate([[0.0], np.cumsum(reach * survival)])
        return [int(np.argmax(tokens / (seconds[0] + more + scenario.overhead)))]

    def _of_many(self, survival: HostFloats) -> list[int]:
        scenario = self._scenario
        rows = len(survival)
        best, lookaheads = rows / (self._table(rows)[rows] + scenario.overhead), [0] * rows
        for longest in range(1, LONGEST + 1):
            gains = survival[:, :longest].T.ravel()
            order = np.argsort(-gains, kind="stable")
            drafted = np.arange(1.0, len(order) + 1)
            depths = np.maximum.accumulate(order // rows) + 1.0
            seconds = self._table(rows)[rows + 1 : rows + 1 + len(order)] + scenario.drafting.seconds(depths, drafted)
            rates = (rows + np.cumsum(gains[order])) / (seconds + scenario.overhead)
            top = int(np.argmax(rates))
            if rates[top] > best:
                best, lookaheads = float(rates[top]), np.bincount(order[: top + 1] % rows, minlength=rows).tolist()
        return lookaheads

    def _table(self, rows: int) -> HostFloats:
        if rows not in self._tables:
            tokens = range(rows * (1 + LONGEST) + 1)
            self._tables[rows] = np.array([self._scenario.seconds(rows, max(count, rows)) for count in tokens])
        return self._tables[rows]
