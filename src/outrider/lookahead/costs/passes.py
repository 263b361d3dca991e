"""What a forward pass costs: measured at a few points, refined by every pass that is run.

Kernels have steps: a pass over 4 tokens may cost what one over 3 costs, or half as much again. So the curve is a table
of measurements with straight lines between them, never a formula.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from outrider.errors import SettingError
from outrider.lookahead.costs.attention import AttentionCost
from outrider.lookahead.costs.points import Point, interpolated
from outrider.lookahead.costs.refinement import Refinement, table_size
from outrider.maths.arrays import HostFloats
from outrider.maths.buckets import Buckets

# Without a measurement, passes are taken to be as flat as those of large models: then drafts are tried, and teach.
UNMEASURED: Mapping[Point, float] = {(1, 1): 1.0, (1, 64): 1.6, (64, 64): 1.6, (64, 4096): 20.0}
LEVEL_STEP = 0.1  # the weight of a new pass in the EMA of the level, the speed of the machine at present
MEMORY = 0.975  # EMA decay of what one point of the curve knows, per observation
LARGEST_STEP = 2.0  # clipping of outliers: the factor by which a pass may differ from what was expected
OFTEN = 8.0  # observations that make a point of the curve
LARGEST_RISE = 1.2  # the same upwards, for the curve: other programs can slow a pass down, nothing speeds one up
# Learning from a pass takes time. Where many like it were observed and the last one took about as long as was expected,
# the next ones would say the same.
PLENTY = 32.0  # observations of passes of one size, of those that are remembered
SURPRISE = 0.1  # in the logarithm of seconds
PASSED_OVER = 1  # passes that are not looked at after one that was no surprise; more would miss what texts begin to do


class CostCurve:
    """Seconds of one forward pass as a function of (rows, tokens).

    Each new token attends to all cached ones, so passes slow down as texts grow, those over many tokens more than those
    over one. The curve learns by how much, while texts of different lengths are decoded.

    Args:
        points: measured seconds, by (rows, tokens of all rows together); None starts from a flat guess, in arbitrary
            units until the first observation.
        depth: how many tokens of each row were cached when they were measured.

    Attributes:
        buckets: the shapes to which passes are padded: what a pass costs is what its bucket costs. None pads nothing.
        measured: whether points were given.
        depth: how many are cached at present, on average; whoever runs the passes sets it before each of them.

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
        self.buckets: Buckets | None = None
        self._points = dict(points)
        self._measured_depth = depth
        self._attention = AttentionCost()
        self._level = 0.0
        self._observations = 0
        self._passed_over = 0  # how many passes may still go by without a look
        self._refinements: dict[int, Refinement] = {}
        self._base: dict[tuple[int, int], HostFloats] = {}
        self._bases: dict[Point, float] = {}  # single numbers of it
        self._tables: dict[tuple[int, int, float, float], HostFloats] = {}

    def __repr__(self) -> str:
        return f"CostCurve({'measured' if self.measured else 'guessed'}, {self._observations} passes observed)"

    @property
    def observations(self) -> int:
        """How many passes were observed."""
        return self._observations

    @property
    def level(self) -> float:
        """The natural logarithm of how much slower all passes are at present than the curve says."""
        return self._level

    @property
    def measured_depth(self) -> float:
        """How many tokens of each row were cached when the points were measured."""
        return self._measured_depth

    def refined_points(self, most: int) -> dict[Point, float]:
        """What was measured, moved to what was observed, without the level: points for another curve.

        Args:
            most: how many points; those that were measured come first.
        """
        seen = {(rows, tokens) for rows, of_row in self._refinements.items() for tokens in of_row.often(OFTEN)}
        found = {}
        for rows, tokens in [*self._points, *sorted(seen - self._points.keys())][:most]:
            seconds = self._base_of(rows, tokens)
            refinement = self._refinements.get(rows)
            log = float(refinement.table(tokens, 0.0, 0.0)[tokens]) if refinement is not None else 0.0
            found[rows, tokens] = seconds * math.exp(log)
        return found

    @property
    def points(self) -> dict[Point, float]:
        """The measured seconds."""
        return dict(self._points)

    def seconds(self, rows: int, tokens: int) -> float:
        """Of one pass over `tokens` new tokens in `rows` rows together."""
        return float(self.table(rows, tokens)[tokens])

    def table(self, rows: int, most: int, hope: float = 0.0) -> HostFloats:
        """Seconds [most + 1] of passes over 0, 1, ... `most` tokens; less than a token for each row costs no less.

        Args:
            hope: an optimism bonus: the share by which a pass may be cheaper than it seems where none like it was
                observed; less where some were, or many of nearly as many tokens.
        """
        key = (rows, most, hope, self.depth)
        if key not in self._tables:
            if self.buckets is None:
                self._tables[key] = self._refined(rows, most, hope)
            else:
                padded = self.buckets.padded(rows, np.maximum(np.arange(most + 1), rows))
                whole = self._refined(self.buckets.padded_rows(rows), int(padded.max()), hope)
                self._tables[key] = whole[padded]
        return self._tables[key]

    def short_table(self, rows: int, most: int, hope: float = 0.0) -> list[float]:
        """The same as `table`, in plain numbers: for a few tokens NumPy takes several times as long."""
        if self.buckets is not None:
            return [float(seconds) for seconds in self.table(rows, most, hope)]
        base = self._base_table(rows, most).tolist()
        if beyond := self.depth - self._measured_depth:
            base = self._attention.added_to_few(base, rows, beyond)
        refinement = self._refinements.get(rows)
        if refinement is None:
            factor = math.exp(self._level - hope)
            return [seconds * factor for seconds in base]
        logs = refinement.short_table(most, self._level, hope)
        return [seconds * math.exp(log) for seconds, log in zip(base, logs, strict=True)]

    def observe(self, rows: int, tokens: int, seconds: float) -> None:
        """Learn from a pass that was run."""
        if self._passed_over:
            self._passed_over -= 1
            return
        if seconds <= 0:
            return
        if self.buckets is not None:
            tokens = int(self.buckets.padded(rows, np.array([tokens]))[0])
            rows = self.buckets.padded_rows(rows)
        self._tables.clear()
        base = self._base_of(rows, tokens)
        if not self._observations:
            self._level = math.log(seconds / base) if not self.measured else 0.0
        self._observations += 1
        beyond, scale = self.depth - self._measured_depth, math.exp(self._level)
        expected = self._attention.added_to_one(base, rows, tokens, beyond)
        plausible = min(max(seconds / scale, expected / LARGEST_STEP), expected * LARGEST_STEP)
        self._attention.observe(rows, tokens, beyond, plausible - base)
        expected = self._attention.added_to_one(base, rows, tokens, beyond)
        self._refine(rows, tokens, math.log(seconds / (scale * expected)))

    def _refine(self, rows: int, tokens: int, log: float) -> None:
        """Move the level, and the point of the curve, towards this log of observed over expected seconds."""
        if rows not in self._refinements:
            self._refinements[rows] = Refinement(rows)
        refinement = self._refinements[rows]
        known, weight = refinement.at(tokens)
        if weight > PLENTY and abs(log - known) < SURPRISE:
            self._passed_over = PASSED_OVER
        log = known + min(max(log - known, -math.log(LARGEST_STEP)), math.log(LARGEST_RISE))
        self._level += max(LEVEL_STEP, 1 / self._observations) * (log - known) if self._observations > 1 else 0.0
        weight *= MEMORY
        refinement.put(tokens, (known * weight + log) / (weight + 1), weight + 1)

    def _refined(self, rows: int, most: int, hope: float) -> HostFloats:
        base = self._base_table(rows, most)
        if beyond := self.depth - self._measured_depth:
            base = self._attention.added_to(base, rows, np.maximum(np.arange(most + 1), rows), beyond)
        refinement = self._refinements.get(rows)
        if refinement is None:
            return np.asarray(base * math.exp(self._level - hope))
        return np.asarray(base * np.exp(refinement.table(most, self._level, hope)))

    def _base_of(self, rows: int, tokens: int) -> float:
        key = (rows, tokens)
        if key not in self._bases:
            self._bases[key] = float(self._base_table(rows, tokens)[tokens])
        return self._bases[key]

    def _base_table(self, rows: int, most: int) -> HostFloats:
        size = table_size(most)
        if (rows, size) not in self._base:
            self._base[rows, size] = interpolated(self._points, rows, np.maximum(np.arange(size), rows))
        return self._base[rows, size][: most + 1]
