"""What a forward pass costs: measured at a few points, refined by every pass that is run.

Kernels have steps: a pass over 4 tokens may cost what one over 3 costs, or half as much again. So the curve is a table
of measurements with straight lines between them, never a formula.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from outrider.errors import SettingError
from outrider.maths.arrays import HostFloats

Point = tuple[int, int]  # (rows, tokens of all rows together)
# Where nothing was measured, a pass is taken to be as flat as those of large models: an optimist tries, and learns.
UNMEASURED: Mapping[Point, float] = {(1, 1): 1.0, (1, 64): 1.6, (64, 64): 1.6, (64, 4096): 20.0}
LEVEL_STEP = 0.1  # how fast the level follows: passes slow down as texts grow and other programs run
MEMORY = 0.975  # of one observation of a cell after the next
PRIOR = 2.0  # how many observations the measurement at start is worth
SMOOTH_FROM = 10.0  # tokens; a step of one token among n changes a pass by up to a share of 1 / n
REACH = 0.2  # how far an observation speaks for its neighbours, in doublings of the token count
SPAN = 4  # times the token count, where it tells nothing any more
LARGEST_STEP = 2.0  # times what was expected, that one pass is believed
LARGEST_RISE = 1.2  # the same upwards: a pass may be held up by something else, and is never faster than it can be
LEAST_SHARE = 0.5  # of the measured time, that passes over shorter texts may take
DOUBT = 64.0  # pairs of tokens; what fewer add to a pass is lost in its noise
LONG_MEMORY = 0.999  # of one pass after the next, for what does not change with the machine's mood


class _Refinement:
    """Observations of one row count: how far passes lay from the measured curve, by token count.

    What each count says of the others is added up as it comes: a table is needed in every round.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._logs = np.empty(0)  # [counts], of what was observed at each of them, over what was measured
        self._weights = np.empty(0)  # [counts], of how many observations
        self._told = np.empty(0)  # [counts], the sums of logs and weights over all counts, by their nearness
        self._evidence = np.empty(0)
        self._grow(_table_size(rows))

    def at(self, tokens: int) -> tuple[float, float]:
        """The logarithm at a count, and its weight."""
        if tokens >= len(self._logs):
            return 0.0, 0.0
        return float(self._logs[tokens]), float(self._weights[tokens])

    def put(self, tokens: int, log: float, weight: float) -> None:
        """Replace both."""
        old_log, old_weight = self.at(tokens)
        if SPAN * tokens >= len(self._logs):
            self._grow(_table_size(SPAN * tokens))
        nearness = self._nearness(tokens)
        self._told += (weight * log - old_weight * old_log) * nearness
        self._evidence += (weight - old_weight) * nearness
        self._logs[tokens], self._weights[tokens] = log, weight

    def table(self, most: int, level: float, hope: float) -> HostFloats:
        """[most + 1]: logarithms of what passes take, over what was measured."""
        told, evidence = self._told[: most + 1], self._evidence[: most + 1]
        logs, weights = self._logs[: most + 1], self._weights[: most + 1]
        correction = told / (evidence + PRIOR)
        # Beside a step, neighbours say the wrong thing about a count that was itself observed: the fewer tokens, the
        # higher the step.
        blur = self._blur[: most + 1]
        trust = weights / (weights + blur)
        seen = weights + (evidence - weights) * blur / (1 + blur)
        correction = correction + trust * (logs - correction) + level - hope / (1 + seen)
        beyond = np.full(most + 1 - len(correction), level - hope)  # of these no observation tells anything
        return np.concatenate([correction, beyond])

    def _nearness(self, tokens: int) -> HostFloats:
        """[counts]: how far an observation at one count speaks for another."""
        if tokens not in self._kernels:
            distances = self._doublings - self._doublings[tokens]
            self._kernels[tokens] = np.exp(-0.5 * (distances / REACH) ** 2)
        return self._kernels[tokens]

    def _grow(self, size: int) -> None:
        """What was observed so far does not reach the new counts."""
        more = np.zeros(size - len(self._logs))
        self._logs, self._weights, self._told, self._evidence = (
            np.concatenate([values, more]) for values in (self._logs, self._weights, self._told, self._evidence)
        )
        counts = np.maximum(np.arange(size), self._rows)
        self._doublings = np.log2(counts)
        self._blur = (counts / SMOOTH_FROM) ** 2
        self._kernels: dict[int, HostFloats] = {}


class _Attention:
    """What a pass takes longer for each token that is cached beyond those of the measurement.

    One part is taken by each row, whose keys and values are read, the other by each new token, which looks at them;
    which of them matters depends on the runtime. Both come of least squares. In plain decoding they cannot be told
    apart, and share what there is, until drafts are made.
    """

    def __init__(self) -> None:
        self._moments = [0.0, 0.0, 0.0]  # of rows with rows, rows with tokens, tokens with tokens
        self._products = [0.0, 0.0]
        self.per_row = self.per_token = 0.0

    def added_to(self, base: Any, rows: int, tokens: Any, beyond: float) -> Any:
        """What passes take in all that took `base` when they were measured; numbers, or arrays of them."""
        if not beyond:
            return base
        return np.maximum(base + (self.per_row * rows + self.per_token * tokens) * beyond, LEAST_SHARE * base)

    def observe(self, rows: int, tokens: int, beyond: float, seconds: float) -> None:
        """Learn from a pass over texts so much longer, which took so much longer."""
        if not beyond:
            return
        x, y = rows * beyond, tokens * beyond
        self._moments = [LONG_MEMORY * old + new for old, new in zip(self._moments, (x * x, x * y, y * y), strict=True)]
        self._products = [
            LONG_MEMORY * old + new for old, new in zip(self._products, (x * seconds, y * seconds), strict=True)
        ]
        (a, b, c), (p, q) = self._moments, self._products
        a, c = a + DOUBT**2, c + DOUBT**2
        determinant = a * c - b * b
        per_row, per_token = (c * p - b * q) / determinant, (a * q - b * p) / determinant
        if per_row < 0 or per_token < 0:
            per_row, per_token = (0.0, q / c) if per_row < per_token else (p / a, 0.0)
        self.per_row, self.per_token = max(per_row, 0.0), max(per_token, 0.0)


class CostCurve:
    """Seconds of one forward pass as a function of (rows, tokens).

    Every new token looks at all that are cached before it, so that passes slow down as texts grow, those over many
    tokens more than those over one. How much is learned while texts of different lengths are decoded.

    Args:
        points: measured seconds; None starts from a flat guess, in arbitrary units until the first observation.
        depth: how many tokens of each row were cached when they were measured.

    Attributes:
        depth: how many are cached at present, on average; whoever runs the passes says so before each of them.

    Raises:
        SettingError: a point makes no sense.
    """

    def __init__(self, points: Mapping[Point, float] | None = None, depth: float = 0.0) -> None:
        points = UNMEASURED if points is None else points
        wrong = next((p for p, s in points.items() if not (1 <= p[0] <= p[1] and s > 0 and math.isfinite(s))), None)
        if wrong is not None or not points:
            raise SettingError(f"cost point {wrong}: it must be (rows, tokens), tokens at least rows, and take time")
        self.measured = points is not UNMEASURED
        self.depth = depth
        self._points = dict(points)
        self._measured_depth = depth
        self._attention = _Attention()
        self._level = 0.0
        self._observations = 0
        self._refinements: dict[int, _Refinement] = {}
        self._base: dict[tuple[int, int], HostFloats] = {}
        self._tables: dict[tuple[int, int, float, float], HostFloats] = {}

    @property
    def points(self) -> dict[Point, float]:
        """What it was made of."""
        return dict(self._points)

    def seconds(self, rows: int, tokens: int) -> float:
        """Of one pass over `tokens` new tokens in `rows` rows together."""
        return float(self.table(rows, tokens)[tokens])

    def table(self, rows: int, most: int, hope: float = 0.0) -> HostFloats:
        """Seconds [most + 1] of passes over 0, 1, ... `most` tokens; less than a token for each row costs no less.

        Args:
            hope: by what share passes may be cheaper than they seem where none was ever observed; less where some were,
                or many of nearly as many tokens.
        """
        key = (rows, most, hope, self.depth)
        if key not in self._tables:
            self._tables[key] = self._refined(rows, most, hope)
        return self._tables[key]

    def _refined(self, rows: int, most: int, hope: float) -> HostFloats:
        base = self._base_table(rows, most)
        if beyond := self.depth - self._measured_depth:
            base = self._attention.added_to(base, rows, np.maximum(np.arange(most + 1), rows), beyond)
        refinement = self._refinements.get(rows)
        if refinement is None:
            return np.asarray(base * math.exp(self._level - hope))
        return np.asarray(base * np.exp(refinement.table(most, self._level, hope)))

    def observe(self, rows: int, tokens: int, seconds: float) -> None:
        """Learn from a pass that was run."""
        if seconds <= 0:
            return
        self._tables.clear()
        base = float(self._base_table(rows, tokens)[tokens])
        if not self._observations:
            self._level = math.log(seconds / base) if not self.measured else 0.0
        self._observations += 1
        beyond, scale = self.depth - self._measured_depth, math.exp(self._level)
        expected = float(self._attention.added_to(base, rows, tokens, beyond))
        plausible = min(max(seconds / scale, expected / LARGEST_STEP), expected * LARGEST_STEP)
        self._attention.observe(rows, tokens, beyond, plausible - base)
        expected = float(self._attention.added_to(base, rows, tokens, beyond))
        refinement = self._refinements.setdefault(rows, _Refinement(rows))
        known, weight = refinement.at(tokens)
        surprise = math.log(seconds / (scale * expected))
        surprise = known + min(max(surprise - known, -math.log(LARGEST_STEP)), math.log(LARGEST_RISE))
        self._level += max(LEVEL_STEP, 1 / self._observations) * (surprise - known) if self._observations > 1 else 0.0
        weight *= MEMORY
        refinement.put(tokens, (known * weight + surprise) / (weight + 1), weight + 1)

    def _base_table(self, rows: int, most: int) -> HostFloats:
        size = _table_size(most)
        if (rows, size) not in self._base:
            self._base[rows, size] = self._interpolate(rows, np.maximum(np.arange(size), rows))
        return self._base[rows, size][: most + 1]

    def _interpolate(self, rows: int, tokens: HostFloats) -> HostFloats:
        """Between the two nearest row counts that were measured, at the same tokens per row."""
        measured = sorted({point[0] for point in self._points})
        per_row = tokens / rows
        lower = max((count for count in measured if count <= rows), default=measured[0])
        upper = min((count for count in measured if count >= rows), default=None)
        if upper is None:
            # Beyond the largest: by tokens alone, along the curve of the largest.
            return self._of_measured_rows(lower, tokens / lower)
        if upper == lower:
            return self._of_measured_rows(lower, per_row)
        share = (rows - lower) / (upper - lower)
        return (1 - share) * self._of_measured_rows(lower, per_row) + share * self._of_measured_rows(upper, per_row)

    def _of_measured_rows(self, rows: int, per_row: HostFloats) -> HostFloats:
        known = sorted((tokens / rows, seconds) for (r, tokens), seconds in self._points.items() if r == rows)
        x = np.array([place for place, _ in known])
        y = np.array([seconds for _, seconds in known])
        values = np.interp(per_row, x, y)
        if len(x) > 1:
            slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), 0.0)
            values = values + slope * np.maximum(per_row - x[-1], 0.0)
        else:
            values = values * np.maximum(per_row / x[-1], 1.0)
        result: HostFloats = values
        return result


def _table_size(most: int) -> int:
    """Rounded up, so that growing drafts do not compute tables anew each time."""
    return 1 << max(most, 31).bit_length()
