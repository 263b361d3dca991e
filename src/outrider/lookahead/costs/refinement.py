"""What the passes that are run say about the measured curve."""

from __future__ import annotations

from typing import Any

import numpy as np

from outrider.maths.arrays import HostFloats

PRIOR = 2.0  # pseudo-counts: observations that the measurement at start is worth
REACH = 0.2  # bandwidth of the kernel by which an observation speaks for its neighbours, in doublings of the count
SPAN = 4  # times the token count, beyond which it speaks for none
SMOOTH_FROM = 10.0  # tokens; among n of them, one token more changes a pass by at most a share of 1 / n


class Refinement:
    """Observations for one row count: how far passes lay from the measured curve, by token count.

    Kernel regression. An observation changes two numbers; what they say about other counts is added up when a table is
    wanted, which is not in every round.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._observed: dict[int, tuple[float, float]] = {}  # by count: the log of observed over measured seconds, and
        # of how many observations it is made
        self._new: set[int] = set()  # counts whose observations the sums below do not hold yet
        self._summed: dict[int, tuple[float, float]] = {}  # as in `_observed`, what they do hold
        self._logs = np.empty(0)  # [counts], as in `_observed`
        self._weights = np.empty(0)  # [counts], as in `_observed`
        self._told = np.empty(0)  # [counts], sum over all counts of nearness x weight x log
        self._evidence = np.empty(0)  # [counts], sum over all counts of nearness x weight
        self._grow(table_size(rows))

    def at(self, tokens: int) -> tuple[float, float]:
        """The log at a count, and its weight."""
        return self._observed.get(tokens, (0.0, 0.0))

    def often(self, least: float) -> list[int]:
        """The counts that were observed so often, in the weights of `at`."""
        return sorted(tokens for tokens, (_, weight) in self._observed.items() if weight >= least)

    def put(self, tokens: int, log: float, weight: float) -> None:
        """Replace both."""
        self._observed[tokens] = log, weight
        self._new.add(tokens)

    def table(self, most: int, level: float, hope: float) -> HostFloats:
        """[most + 1]: log of what passes take, over what was measured.

        Args:
            level: log of how much slower all passes are at present.
            hope: an optimism bonus, the smaller the more was observed.
        """
        told, evidence, logs, weights, blur = self._known(most)
        logs = np.asarray(_log(told, evidence, logs, weights, blur, level, hope))
        beyond = np.full(most + 1 - len(logs), level - hope)  # no observation speaks for these
        return np.concatenate([logs, beyond])

    def short_table(self, most: int, level: float, hope: float) -> list[float]:
        """The same in plain numbers."""
        known = [values.tolist() for values in self._known(most)]
        logs = [
            _log(told, evidence, log, weight, blur, level, hope)
            for told, evidence, log, weight, blur in zip(*known, strict=True)
        ]
        return logs + [level - hope] * (most + 1 - len(logs))

    def _known(self, most: int) -> tuple[HostFloats, ...]:
        """What `_log` is told about counts up to `most`."""
        self._add_up()
        known = self._told, self._evidence, self._logs, self._weights, self._blur
        return tuple([values[: most + 1] for values in known])

    def _add_up(self) -> None:
        """Bring the sums up to date."""
        for tokens in self._new:
            if SPAN * tokens >= len(self._logs):
                self._grow(table_size(SPAN * tokens))
            log, weight = self._observed[tokens]
            old_log, old_weight = self._summed.get(tokens, (0.0, 0.0))
            nearness = self._nearness(tokens)
            self._told += (weight * log - old_weight * old_log) * nearness
            self._evidence += (weight - old_weight) * nearness
            self._logs[tokens], self._weights[tokens] = self._summed[tokens] = log, weight
        self._new.clear()

    def _nearness(self, tokens: int) -> HostFloats:
        """[counts]: how much an observation at one count says about another."""
        if tokens not in self._kernels:
            distances = self._doublings - self._doublings[tokens]
            self._kernels[tokens] = np.exp(-0.5 * (distances / REACH) ** 2)
        return self._kernels[tokens]

    def _grow(self, size: int) -> None:
        """Make room for larger counts; no observation so far speaks for them."""
        more = np.zeros(size - len(self._logs))
        self._logs, self._weights, self._told, self._evidence = (
            np.concatenate([values, more]) for values in (self._logs, self._weights, self._told, self._evidence)
        )
        counts = np.maximum(np.arange(size), self._rows)
        self._doublings = np.log2(counts)
        self._blur = (counts / SMOOTH_FROM) ** 2
        self._kernels: dict[int, HostFloats] = {}


def _log(told: Any, evidence: Any, log: Any, weight: Any, blur: Any, level: float, hope: float) -> Any:
    """Log of what a pass takes, over what was measured; of numbers, or arrays of them."""
    around = told / (evidence + PRIOR)
    # At a step of the curve the neighbours mislead, the more so the fewer tokens there are: a count that was itself
    # observed is trusted more.
    trust = weight / (weight + blur)
    seen = weight + (evidence - weight) * blur / (1 + blur)
    return around + trust * (log - around) + level - hope / (1 + seen)


def table_size(most: int) -> int:
    """Rounded up, so that tables are not computed again for every longer draft."""
    return 1 << max(most, 31).bit_length()
