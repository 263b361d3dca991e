"""Interpolation between the passes that were measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from outrider.maths.arrays import HostFloats

Point = tuple[int, int]  # (rows, tokens of all rows together)


def interpolated(points: Mapping[Point, float], rows: int, tokens: HostFloats) -> HostFloats:
    """Seconds of passes over so many tokens: between the two nearest measured row counts, at the same tokens per row.

    Beyond the largest row count only the tokens matter, along the curve of that count.

    Args:
        points: measured seconds.
        tokens: [counts], of all rows together.
    """
    measured = sorted({point[0] for point in points})
    lower = max((count for count in measured if count <= rows), default=measured[0])
    upper = min((count for count in measured if count >= rows), default=None)
    if upper is None:
        return _along(points, lower, tokens / lower)
    per_row = tokens / rows
    if upper == lower:
        return _along(points, lower, per_row)
    share = (rows - lower) / (upper - lower)
    return (1 - share) * _along(points, lower, per_row) + share * _along(points, upper, per_row)


def _along(points: Mapping[Point, float], rows: int, per_row: HostFloats) -> HostFloats:
    """The curve of a row count that was measured; beyond its last point it goes on with the last slope."""
    known = sorted((tokens / rows, seconds) for (count, tokens), seconds in points.items() if count == rows)
    x = np.array([place for place, _ in known])
    y = np.array([seconds for _, seconds in known])
    values = np.interp(per_row, x, y)
    if len(x) > 1:
        slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), 0.0)
        values = values + slope * np.maximum(per_row - x[-1], 0.0)
    else:
        values = values * np.maximum(per_row / x[-1], 1.0)
    return np.asarray(values, dtype=np.float64)
